-- Messages that a consumer could not apply, and those of their streams that wait behind them: written by
-- the transaction that moves the checkpoint past them, taken away by the one that applies them after all.
-- The events themselves stay in the source's log; those that were discarded stay here, with who and why.
create table parked_messages (
  consumer text not null,
  position bigint not null check (position > 0),
  stream text not null,
  event_id text not null,
  type text not null,
  cause text not null,
  detail text not null,
  attempts integer not null check (attempts >= 0),
  parked_at timestamptz not null,
  state text not null check (state in ('parked', 'retry', 'discarded')),
  decided_by text,
  reason text,
  decided_at timestamptz,
  primary key (consumer, position),
  check (state <> 'discarded' or (decided_by is not null and reason is not null and decided_at is not null))
);

create index parked_messages_waiting on parked_messages (consumer, stream, position) where state <> 'discarded';

-- What an operator has last said about a consumer: to pause, or to go on.
create table consumer_pauses (
  consumer text primary key,
  paused boolean not null,
  decided_by text not null,
  decided_at timestamptz not null
);
