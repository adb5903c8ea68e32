-- Reports, one for each day. Made again, a report replaces the one before.
create table if not exists worker.reports (
  day date not null,                       -- in UTC
  data jsonb not null,
  html text not null,                      -- the whole page, without anything from elsewhere
  made int not null default 1,             -- how often it was made
  mail text,                               -- null = not mailed. Claimed before it is sent: a day is mailed at most once
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  mailed_at timestamptz,
  constraint reports_pkey primary key (day),
  constraint reports_mail_check check (mail in ('sending', 'sent', 'failed', 'unknown')),
  constraint reports_size_check check (octet_length(html) <= 1048576 and octet_length(data::text) <= 1048576)
);
alter table worker.reports enable row level security;
grant select, insert, update, delete on worker.reports to service_role;
