-- What the stock and reservation streams add up to. The check is the last line against overselling.
create table stock (
  sku text primary key,
  version integer not null,
  on_hand bigint not null,
  reserved bigint not null,
  check (reserved >= 0 and reserved <= on_hand)
) with (fillfactor = 70);

create table reservations (
  order_id text primary key,
  version integer not null,
  status text not null check (status in ('held', 'rejected', 'released', 'shipped', 'barred'))
) with (fillfactor = 70);

create or replace function write_inline_tables(new_states json, new_events json) returns void
language plpgsql
set plan_cache_mode = force_generic_plan
as $$
begin
  with written as materialized (
    select w.s, w.v, w.state from json_to_recordset(new_states) as w(s text, v integer, state json)
  ),
  written_stock as (
    insert into stock (sku, version, on_hand, reserved)
    select substr(w.s, 7), w.v, l."onHand", l.reserved
    from written as w, json_to_record(w.state) as l("onHand" bigint, reserved bigint)
    where w.s like 'stock-%'
    on conflict (sku) do update
      set version = excluded.version, on_hand = excluded.on_hand, reserved = excluded.reserved
  )
  insert into reservations (order_id, version, status)
  select substr(s, 13), v, state ->> 'status'
  from written where s like 'reservation-%'
  on conflict (order_id) do update set version = excluded.version, status = excluded.status;
end
$$;
