-- One row: the head of the log. Whoever appends locks it first, so that commit order, position order
-- and the order in which events become visible are one and the same.
create table log_head (
  single boolean primary key default true check (single),
  source text not null,
  epoch uuid not null default gen_random_uuid(),
  position bigint not null default 0
) with (fillfactor = 20);

create table events (
  position bigint primary key,
  at timestamptz not null,
  version integer not null check (version > 0),
  slot smallint not null,
  stream text not null,
  type text not null,
  data json not null,
  origin json not null,
  unique (stream, version)
);

-- The state of each stream beside its version: loading is one row however long the stream is.
-- due_at is when the stream wants to be woken: its durable timer, a function of its state.
create table streams (
  stream text primary key,
  version integer not null check (version > 0),
  slot smallint not null,
  due_at timestamptz,
  state json not null
) with (fillfactor = 80);

create index streams_due on streams (due_at) where due_at is not null;

-- What was answered under an idempotency key, recorded together with the effect.
create table idempotency_keys (
  caller text not null,
  key text not null,
  fingerprint text not null,
  answer json not null,
  at timestamptz not null,
  primary key (caller, key)
);

create index idempotency_keys_at on idempotency_keys using brin (at);

-- Normalised tables that a service keeps beside its log, in the same transaction. A service that has
-- some replaces this function.
create function write_inline_tables(new_states json, new_events json) returns void
  language sql as $$ select $$;

-- Records one batch, or nothing of it. Returns the position before the batch, and what stood against
-- it: streams at another version, keys that are taken, consumers whose checkpoint has moved.
create function append(checks json, new_events json, new_states json, new_keys json, moves json)
  returns table (head bigint, conflicts json, duplicates json, fenced json)
  language plpgsql
  set plan_cache_mode = force_generic_plan
  set enable_hashjoin = off
  set enable_mergejoin = off
  set enable_seqscan = off
as $$
begin
  select h.position into strict head from log_head h for update;

  select json_agg(c.s) into conflicts
  from json_to_recordset(checks) as c(s text, v integer)
  left join streams on streams.stream = c.s
  where coalesce(streams.version, 0) <> c.v;

  if new_keys is not null then
    select json_agg(json_build_object('caller', k.caller, 'key', k.key, 'fingerprint', k.fingerprint, 'answer', k.answer))
    into duplicates
    from json_to_recordset(new_keys) as n(c text, k text)
    join idempotency_keys k on k.caller = n.c and k.key = n.k;
  end if;

  if moves is not null then
    select json_agg(m.c) into fenced
    from json_to_recordset(moves) as m(c text, f bigint)
    left join checkpoints on checkpoints.consumer = m.c
    where coalesce(checkpoints.position, 0) <> m.f;
  end if;

  if conflicts is not null or duplicates is not null or fenced is not null then
    return next;
    return;
  end if;

  if new_events is not null then
    insert into events (position, at, version, slot, stream, type, data, origin)
    select head + e.n, e.at, e.v, e.slot, e.s, e.type, e.data, e.origin
    from json_to_recordset(new_events)
      as e(n integer, at timestamptz, v integer, slot smallint, s text, type text, data json, origin json);

    update log_head set position = head + json_array_length(new_events);
  end if;

  if new_states is not null then
    insert into streams (stream, version, slot, due_at, state)
    select w.s, w.v, w.slot, w.due, w.state
    from json_to_recordset(new_states) as w(s text, v integer, slot smallint, due timestamptz, state json)
    on conflict (stream) do update
      set version = excluded.version, due_at = excluded.due_at, state = excluded.state;

    perform write_inline_tables(new_states, new_events);
  end if;

  if new_keys is not null then
    insert into idempotency_keys (caller, key, fingerprint, answer, at)
    select k.c, k.k, k.fingerprint, k.answer, k.at
    from json_to_recordset(new_keys) as k(c text, k text, fingerprint text, answer json, at timestamptz)
    where k.answer is not null;
  end if;

  if moves is not null then
    insert into checkpoints (consumer, position)
    select m.c, m.t from json_to_recordset(moves) as m(c text, t bigint)
    on conflict (consumer) do update set position = excluded.position;
  end if;

  return next;
end
$$;
