-- One document of a workspace: where its content lies, how far its processing is, and which version of its chunks is
-- served. Changes only through the functions document_*. A deleted document keeps its row, without name and path, until
-- it is pruned, so that late messages find out.
create table if not exists worker.documents (
  id uuid not null,
  workspace_id uuid not null,
  name text not null,                      -- as its owner calls it; '' once deleted
  mime text,                               -- as declared; what it is is found out by reading
  storage text not null,                   -- supabase | azure
  container text not null,                 -- bucket or container
  path text not null,                      -- begins with the workspace; '' once deleted
  priority text not null default 'normal',
  state text not null default 'uploaded',
  stage text,                              -- for display; null while nobody works on it
  progress jsonb not null default '{}',    -- for display
  claims int not null default 0,           -- claims ever; the version that the current claim writes
  active_version int,                      -- the version that is served; null = none yet
  work_item uuid,                          -- the latest work item that was made for it or claimed it
  claim_item uuid,                         -- who works on it: the work item and its fence
  claim_fence bigint,
  lease_until timestamptz,
  failures int not null default 0,         -- failed attempts since the last success
  absences int not null default 0,         -- attempts in a row that did not find the stored object
  is_forced boolean not null default false, -- process it although content and pipeline are the same
  bytes bigint,
  content_sha256 text,                     -- of the active version
  pipeline_key text,                       -- what made the active version
  type text,                               -- as it was read, such as pdf
  language text,
  page_count int,
  chunk_count int,                         -- of the active version
  warnings jsonb not null default '[]',    -- of the active version
  error_code text,                         -- of the last failed attempt, until the next one ends
  error_text text,
  created_at timestamptz not null default now(),
  requested_at timestamptz,                -- when somebody last asked for it
  started_at timestamptz,
  finished_at timestamptz,
  updated_at timestamptz not null default now(),
  constraint documents_pkey primary key (id),
  constraint documents_storage_check check (storage in ('supabase', 'azure')),
  constraint documents_priority_check check (priority in ('urgent', 'high', 'normal', 'low')),
  constraint documents_state_check check (state in ('uploaded', 'queued', 'processing', 'retrying', 'ready',
    'ready_partial', 'failed', 'unsupported', 'missing', 'cancelled', 'deleted')),
  constraint documents_ready_check check (
    state not in ('ready', 'ready_partial') or (chunk_count > 0 and active_version is not null)),
  constraint documents_claim_check check ((state = 'processing') = (claim_item is not null and claim_fence is not null)),
  constraint documents_lengths_check check (length(name) <= 500 and length(mime) <= 200 and length(container) <= 100
    and length(path) <= 1024 and length(error_text) <= 500 and length(error_code) <= 100)
);
-- An object is one document, however often it is registered.
create unique index if not exists documents_object_idx on worker.documents (workspace_id, storage, container, path)
  where state <> 'deleted';
create index if not exists documents_workspace_idx on worker.documents (workspace_id, created_at, id);
create index if not exists documents_open_idx on worker.documents (updated_at)
  where state in ('queued', 'processing', 'retrying');
create index if not exists documents_deleted_idx on worker.documents (updated_at) where state = 'deleted';
alter table worker.documents enable row level security;
grant select, insert, update, delete on worker.documents to service_role;

-- The parts of a document that search finds. Only rows whose version is the active one of their document are served;
-- others are being staged, or are left from an attempt that died.
create table if not exists worker.document_chunks (
  document_id uuid not null,
  version int not null,
  ordinal int not null,
  workspace_id uuid not null,
  content text not null,
  headings text[] not null default '{}',   -- outermost first
  content_sha256 text not null,            -- of the exact text that is embedded
  tokens int not null,
  page_from int,
  page_to int,
  char_from int not null,                  -- half-open range of the document's text
  char_to int not null,
  language text not null,
  injection jsonb not null,                -- {riskScore, flags, patterns}
  embedding_model text not null,
  has_vector boolean not null,             -- false = found by its words only
  fts tsvector not null,                   -- headings and content, in the stems of its language; of both when unknown
  constraint document_chunks_pkey primary key (document_id, version, ordinal),
  constraint document_chunks_document_id_fkey foreign key (document_id) references worker.documents (id)
    on delete cascade,
  constraint document_chunks_language_check check (language in ('es', 'en', 'und'))
);
create index if not exists document_chunks_fts_idx on worker.document_chunks using gin (fts);
create index if not exists document_chunks_workspace_idx on worker.document_chunks (workspace_id);
create index if not exists document_chunks_hash_idx on worker.document_chunks (document_id, content_sha256);
alter table worker.document_chunks enable row level security;
grant select, insert, update, delete on worker.document_chunks to service_role;
