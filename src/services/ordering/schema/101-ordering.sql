-- What the order streams add up to, normalised: the last line of defence, and what one reads with psql.
create table customers (
  customer_id text primary key,
  version integer not null,
  name text not null,
  email text,
  country text
) with (fillfactor = 80);

create table products (
  sku text primary key,
  version integer not null,
  name text not null,
  price bigint not null check (price >= 0),
  currency char(3) not null
) with (fillfactor = 80);

create table orders (
  order_id text primary key,
  version integer not null,
  customer_id text not null references customers,
  status text not null check (status in ('pending', 'reserved', 'completed', 'failed', 'cancelled')),
  total bigint not null check (total >= 0),
  currency char(3) not null,
  placed_at timestamptz not null
) with (fillfactor = 70);

create table order_lines (
  order_id text not null references orders,
  line_no integer not null,
  sku text not null references products,
  quantity integer not null check (quantity > 0),
  unit_price bigint not null check (unit_price >= 0),
  primary key (order_id, line_no)
);

create or replace function write_inline_tables(new_states json, new_events json) returns void
language plpgsql
set plan_cache_mode = force_generic_plan
as $$
begin
  with written as materialized (
    select w.s, w.v, w.state from json_to_recordset(new_states) as w(s text, v integer, state json)
  ),
  written_customers as (
    insert into customers (customer_id, version, name, email, country)
    select substr(s, 10), v, state ->> 'name', state ->> 'email', state ->> 'country'
    from written where s like 'customer-%'
    on conflict (customer_id) do update
      set version = excluded.version, name = excluded.name, email = excluded.email, country = excluded.country
  ),
  written_products as (
    insert into products (sku, version, name, price, currency)
    select substr(w.s, 7), w.v, o.name, (o.price ->> 'amount')::bigint, o.price ->> 'currency'
    from written as w, json_to_record(w.state) as o(name text, price json)
    where w.s like 'offer-%'
    on conflict (sku) do update
      set version = excluded.version, name = excluded.name, price = excluded.price, currency = excluded.currency
  ),
  written_orders as (
    insert into orders (order_id, version, customer_id, status, total, currency, placed_at)
    select
      substr(w.s, 7), w.v, o."customerId", o.status, (o.total ->> 'amount')::bigint, o.total ->> 'currency', o."placedAt"
    from written as w,
      json_to_record(w.state) as o("customerId" text, status text, total json, "placedAt" timestamptz)
    where w.s like 'order-%'
    on conflict (order_id) do update set version = excluded.version, status = excluded.status
  )
  insert into order_lines (order_id, line_no, sku, quantity, unit_price)
  select o."orderId", l.line_no, l.sku, l.quantity, l."unitPrice"
  from json_to_recordset(new_events) as e(type text, data json),
    json_to_record(e.data) as o("orderId" text, lines json),
    rows from (json_to_recordset(o.lines) as (sku text, quantity integer, "unitPrice" bigint))
      with ordinality as l(sku, quantity, "unitPrice", line_no)
  where e.type = 'OrderPlaced';
end
$$;
