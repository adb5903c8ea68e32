-- The vectors of chunks, apart from their texts, because a database without pgvector can do everything else. Vectors of
-- two models are never compared.
create table if not exists worker.document_vectors (
  document_id uuid not null,
  version int not null,
  ordinal int not null,
  workspace_id uuid not null,
  model text not null,
  embedding extensions.halfvec(1536) not null,
  constraint document_vectors_pkey primary key (document_id, version, ordinal),
  constraint document_vectors_chunk_fkey foreign key (document_id, version, ordinal)
    references worker.document_chunks (document_id, version, ordinal) on delete cascade
);
create index if not exists document_vectors_workspace_idx on worker.document_vectors (workspace_id, model);
alter table worker.document_vectors enable row level security;
grant select, insert, update, delete on worker.document_vectors to service_role;
