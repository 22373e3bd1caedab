-- A batch comes in columns, not as JSON that has to be taken apart: ids, versions and times as arrays, JSON texts as one
-- text each, cut at line breaks, which none of them holds (docs/decisions/0023). `content` is what is hashed of it:
-- its events as they always were, so that the chain goes on as before.

drop function append(json, json, json, json, json);
drop function write_inline_tables(json, json);

-- Normalised tables that a service keeps beside its log, in the same transaction. Their rows come with the batch, one array
-- literal per column and table. A service that has some replaces this function.
create function write_inline_tables(columns text[]) returns void
  language sql as $$ select $$;

-- Records one batch, or nothing of it. Returns the position before the batch, and what stood against
-- it: streams at another version, keys that are taken, consumers whose checkpoint has moved or whose
-- parked messages are no longer there. A key without an answer is checked, and not taken. A move of a checkpoint
-- (c: consumer, f: from, t: to) carries what it unparks (u: positions) and parks (p: rows). A batch with events
-- is chained to the one before.
create function append(
  check_streams text[], check_versions integer[],
  content text,
  event_streams text[], event_versions integer[], event_slots smallint[], event_types text[], event_times timestamptz[],
  event_data text, event_origins text,
  state_streams text[], state_versions integer[], state_slots smallint[], state_dues timestamptz[], states text,
  key_callers text[], key_names text[], key_fingerprints text[], key_times timestamptz[], key_answers text,
  moves json,
  variadic inline_columns text[]
)
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

  select json_agg(c.stream) into conflicts
  from unnest(check_streams, check_versions) as c(stream, version)
  left join streams on streams.stream = c.stream
  where coalesce(streams.version, 0) <> c.version;

  if key_names is not null then
    select json_agg(json_build_object('caller', k.caller, 'key', k.key, 'fingerprint', k.fingerprint, 'answer', k.answer))
    into duplicates
    from unnest(key_callers, key_names) as n(caller, key)
    join idempotency_keys k on k.caller = n.caller and k.key = n.key;
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

  if content is not null then
    insert into events (position, at, version, slot, stream, type, data, origin)
    select head + e.n, e.at, e.version, e.slot, e.stream, e.type, e.data::json, e.origin::json
    from unnest(event_times, event_versions, event_slots, event_streams, event_types,
      string_to_array(event_data, E'\n'), string_to_array(event_origins, E'\n'))
      with ordinality as e(at, version, slot, stream, type, data, origin, n);

    batch_end := head + cardinality(event_streams);
    batch_hash := chained(previous_hash, head + 1, content);
    insert into batches (first_position, last_position, hash) values (head + 1, batch_end, batch_hash);
    update log_head set position = batch_end, hash = batch_hash;
  end if;

  if states is not null then
    insert into streams (stream, version, slot, due_at, state)
    select w.stream, w.version, w.slot, w.due, w.state::json
    from unnest(state_streams, state_versions, state_slots, state_dues, string_to_array(states, E'\n'))
      as w(stream, version, slot, due, state)
    on conflict (stream) do update
      set version = excluded.version, due_at = excluded.due_at, state = excluded.state;

    perform write_inline_tables(inline_columns);
  end if;

  if key_names is not null then
    insert into idempotency_keys (caller, key, fingerprint, answer, at)
    select k.caller, k.key, k.fingerprint, k.answer::json, k.at
    from unnest(key_callers, key_names, key_fingerprints, string_to_array(key_answers, E'\n', ''), key_times)
      as k(caller, key, fingerprint, answer, at)
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
