-- The read model `customers`. A row without `profile` has orders, but its customer is not known yet.
create table customers (
  customer_id text collate "C" primary key,
  version integer not null default 0,
  profile text,
  orders bigint not null default 0,
  last_order_at timestamptz,
  -- How many order events have changed the figures.
  revision bigint not null default 0
) with (fillfactor = 80);

create table customer_spent (
  customer_id text collate "C" not null,
  currency text collate "C" not null,
  amount numeric not null,
  primary key (customer_id, currency)
) with (fillfactor = 80);

-- What an order adds to its customer's figures once it is completed.
create table customer_orders (
  order_id text collate "C" primary key,
  customer_id text collate "C" not null,
  amount bigint not null,
  currency text collate "C" not null,
  completed boolean not null default false
) with (fillfactor = 80);
