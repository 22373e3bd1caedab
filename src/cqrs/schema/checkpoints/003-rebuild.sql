-- How often the rows that a consumer has written were replaced by others than itself: whoever goes on from what it
-- remembers of them is fenced, as if its checkpoint had been moved.
alter table checkpoints add column generation bigint not null default 0;

-- In which version of its code each read model was projected, and whether the tables before are still there.
create table read_models (
  name text primary key,
  version integer not null check (version > 0),
  previous_version integer,
  previous_since timestamptz,
  check ((previous_version is null) = (previous_since is null))
);

-- Where the tables of before stand, in the logs and among the parked messages, for whoever goes back to them.
create table previous_checkpoints (
  consumer text primary key,
  read_model text not null references read_models,
  position bigint not null
);

create table previous_passed (
  consumer text not null,
  read_model text not null references read_models,
  position bigint not null,
  primary key (consumer, read_model, position)
);

-- Long work that an operator asked for, and how far it has come. One that says `running` and has not been
-- heard of for a while died with its process.
create table jobs (
  id text primary key,
  kind text not null,
  subject text not null,
  state text not null check (state in ('running', 'done', 'failed')),
  started_by text not null,
  started_at timestamptz not null,
  heard_at timestamptz not null,
  progress json not null,
  -- What came of it, or why it failed.
  outcome json
);

create index jobs_started on jobs (started_at);
