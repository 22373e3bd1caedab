-- What the divergence streams add up to; last_seen beside it is written by whoever looks, without an event.
create table divergences (
  id text primary key,
  check_name text not null,
  entity text not null,
  order_id text,
  status text not null check (status in ('open', 'repaired', 'accepted', 'gone')),
  first_seen timestamptz not null,
  last_seen timestamptz not null,
  version integer not null,
  state json not null
) with (fillfactor = 70);

create index divergences_seen on divergences (first_seen desc, id);
create index divergences_open on divergences (check_name, entity) where status = 'open';
create index divergences_order on divergences (order_id) where order_id is not null;

-- Where the rolling audit has come to: it goes on from there after a restart.
create table rolling_audit (
  single boolean primary key default true check (single),
  state json not null
) with (fillfactor = 50);

create or replace function write_inline_tables(new_states json, new_events json) returns void
language plpgsql
set plan_cache_mode = force_generic_plan
as $$
begin
  insert into divergences (id, check_name, entity, order_id, status, first_seen, last_seen, version, state)
  select
    substr(w.s, 12), w.state #>> '{seen,check}', w.state #>> '{seen,entity}', w.state #>> '{seen,orderId}',
    w.state ->> 'status', (w.state ->> 'firstSeen')::timestamptz, (w.state ->> 'seenAt')::timestamptz, w.v, w.state
  from json_to_recordset(new_states) as w(s text, v integer, state json)
  where starts_with(w.s, 'divergence-')
  on conflict (id) do update
    set status = excluded.status, last_seen = greatest(divergences.last_seen, excluded.last_seen),
        version = excluded.version, state = excluded.state;
end
$$;
