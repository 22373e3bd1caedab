-- What the product streams add up to.
create table products (
  sku text primary key,
  version integer not null,
  name text not null,
  description text,
  price bigint not null check (price >= 0),
  currency char(3) not null
) with (fillfactor = 80);

create or replace function write_inline_tables(new_states json, new_events json) returns void
language plpgsql
set plan_cache_mode = force_generic_plan
as $$
begin
  insert into products (sku, version, name, description, price, currency)
  select
    substr(w.s, 9), w.v, w.state ->> 'name', w.state ->> 'description',
    (w.state #>> '{price,amount}')::bigint, w.state #>> '{price,currency}'
  from json_to_recordset(new_states) as w(s text, v integer, state json)
  on conflict (sku) do update
    set version = excluded.version, name = excluded.name, description = excluded.description,
        price = excluded.price, currency = excluded.currency;
end
$$;
