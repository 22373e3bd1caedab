-- The log can be proved: each batch is hashed together with the hash of the batch before, so that whoever knows
-- one hash knows whether anything up to there has been changed. Positions, streams, versions, slots, types,
-- times, data and origins are all part of it, as they are stored.

-- What `append` has written at once, last position first: one row per batch, without holes between them.
create table batches (
  first_position bigint not null check (first_position > 0),
  last_position bigint primary key check (last_position >= first_position),
  hash bytea not null check (length(hash) = 32)
);

-- That of the last batch; of a log without events, zeros.
alter table log_head add column hash bytea not null default decode(repeat('00', 32), 'hex');

-- The hash of a batch: of the one before, of where it begins, and of its events as `append` is given them.
create function chained(previous_hash bytea, first_position bigint, content text) returns bytea
  language sql stable
  return sha256(previous_hash || int8send(first_position) || convert_to(content, 'UTF8'));

-- One event as `append` was given it, from how it is stored, byte by byte the same. A batch is a JSON array of these,
-- and n says which of them it is.
create function event_content(
  n bigint, at timestamptz, version integer, slot smallint, stream text, type text, data json, origin json
) returns text
  language sql stable
  return '{"n":' || n
    || ',"at":"' || replace(to_char(at at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), '000Z', 'Z')
    || '","v":' || version || ',"slot":' || slot || ',"s":' || to_json(stream) || ',"type":' || to_json(type)
    || ',"data":' || data || ',"origin":' || origin || '}';

-- What was there before the chain is chained as if it had come in batches of 1,000 events.
do $$
declare
  head bigint := (select position from log_head);
  previous_hash bytea := (select hash from log_head);
  batch_start bigint := 1;
  batch_end bigint;
begin
  while batch_start <= head loop
    batch_end := least(batch_start + 999, head);
    previous_hash := chained(
      previous_hash,
      batch_start,
      (select '[' || string_agg(
          event_content(e.position - batch_start + 1, at, version, slot, stream, type, data, origin),
          ',' order by position) || ']'
        from events e where e.position between batch_start and batch_end));
    insert into batches (first_position, last_position, hash) values (batch_start, batch_end, previous_hash);
    batch_start := batch_end + 1;
  end loop;
  update log_head set hash = previous_hash;
end
$$;

-- Records one batch, or nothing of it. Returns the position before the batch, and what stood against
-- it: streams at another version, keys that are taken, consumers whose checkpoint has moved or whose
-- parked messages are no longer there. A move of a checkpoint carries what it unparks (u: positions) and
-- parks (p: rows). A batch with events is chained to the one before.
create or replace function append(checks json, new_events json, new_states json, new_keys json, moves json)
  returns table (head bigint, conflicts json, duplicates json, fenced json)
  language plpgsql
  set plan_cache_mode = force_generic_plan
  set enable_hashjoin = off
  set enable_mergejoin = off
  set enable_seqscan = off
as $$
declare
  parking boolean := false;
  previous_hash bytea;
  batch_hash bytea;
  batch_end bigint;
begin
  select h.position, h.hash into strict head, previous_hash from log_head h for update;

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

    -- Most batches park nothing: taking all of them apart to find out cost 40 µs of 390.
    parking := moves::text like '%"u":%' or moves::text like '%"p":%';

    if parking and fenced is null then
      -- Operators decide on these rows without the head's lock: whoever comes first.
      perform from parked_messages p
      where (p.consumer, p.position) in (
        select m.c, u.value::bigint
        from json_to_recordset(moves) as m(c text, u json), json_array_elements_text(m.u) as u)
      for update;

      select json_agg(m.c) into fenced
      from json_to_recordset(moves) as m(c text, u json)
      where json_array_length(m.u) <> (
        select count(*)
        from json_array_elements_text(m.u) as u
        join parked_messages p on p.consumer = m.c and p.position = u.value::bigint
        where p.state <> 'discarded');
    end if;
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

    batch_end := head + json_array_length(new_events);
    batch_hash := chained(previous_hash, head + 1, new_events::text);
    insert into batches (first_position, last_position, hash) values (head + 1, batch_end, batch_hash);
    update log_head set position = batch_end, hash = batch_hash;
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

    if parking then
      delete from parked_messages p
      using json_to_recordset(moves) as m(c text, u json), json_array_elements_text(m.u) as u
      where p.consumer = m.c and p.position = u.value::bigint;

      insert into parked_messages
        (consumer, position, stream, event_id, type, cause, detail, attempts, parked_at, state)
      select m.c, p.position, p.stream, p."eventId", p.type, p.cause, p.detail, p.attempts, p."parkedAt", p.state
      from json_to_recordset(moves) as m(c text, p json),
        json_to_recordset(m.p) as p(position bigint, stream text, "eventId" text, type text, cause text,
          detail text, attempts integer, "parkedAt" timestamptz, state text);
    end if;
  end if;

  return next;
end
$$;
