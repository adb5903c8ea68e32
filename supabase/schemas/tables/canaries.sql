-- Messages that do nothing but come back: sent through each storage queue, written off by its consumer.
create table if not exists worker.canaries (
  id uuid not null default gen_random_uuid(),
  queue text not null,
  sent_at timestamptz not null default clock_timestamp(),
  arrived_at timestamptz,
  constraint canaries_pkey primary key (id),
  constraint canaries_queue_check check (length(queue) between 1 and 63)
);
create index if not exists canaries_queue_idx on worker.canaries (queue, sent_at desc);
alter table worker.canaries enable row level security;
grant select, insert, update, delete on worker.canaries to service_role;
