-- Rows as projections put them by key. What is derived is emptied, and projected anew from the logs.
truncate checkpoints, customers, products, order_words, order_payments;
drop table orders, order_events, customer_spent, customer_orders, sales_hours, sales_orders;

-- The read model `orders`. What changes (status, failure, payment, updated_at, version) is in no index, and
-- half of each page is left to it: an order's later versions stay on its page.
create table orders (
  order_id text collate "C" primary key,
  version integer not null default 0,
  customer_id text collate "C",
  status text collate "C",
  -- JSON text: why it failed.
  failure text,
  -- JSON text, as OrderView has it.
  lines text,
  units bigint,
  country text collate "C",
  total bigint,
  currency text collate "C",
  payment_status text collate "C",
  -- JSON text: a string that may hold anything.
  payment_method text,
  placed_at timestamptz,
  updated_at timestamptz
) with (fillfactor = 55);

create index orders_placed on orders (placed_at, order_id);
create index orders_customer on orders (customer_id, placed_at, order_id);
create index orders_total on orders (total, order_id);

-- Lists of one status, but for `completed`, which is what nearly all orders come to. Those under way are
-- few and gone within seconds; those that failed or were cancelled do not change any more.
create table open_orders (order_id text collate "C" primary key)
  with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);

create table unfulfilled_orders (
  order_id text collate "C" primary key,
  status text collate "C",
  placed_at timestamptz,
  total bigint
);

create index unfulfilled_orders_placed on unfulfilled_orders (status, placed_at, order_id);
create index unfulfilled_orders_total on unfulfilled_orders (status, total, order_id);

-- With a list of pending entries after all, but a short one: with 20 lines an order's words cost 0.08 ms of
-- processor time instead of 0.34 and a third of the log, and a search reads through 128 kB at most.
alter index order_words_words set (fastupdate = on, gin_pending_list_limit = 128);

-- The read model `history`: service and position are in the id, `<service>-<shard>-<position>`.
create table order_events (
  order_id text collate "C",
  id text collate "C",
  version integer,
  at timestamptz,
  type text,
  actor text,
  causation text,
  -- JSON text.
  data text,
  primary key (order_id, id)
);

-- JSON text: by currency, the digits of the amount.
alter table customers add column spent text;
alter table customers set (fillfactor = 50);

-- The read model `sales`; `id` is hour, country and currency.
create table sales_hours (
  id text collate "C" primary key,
  hour timestamptz,
  country text collate "C",
  currency text collate "C",
  orders bigint,
  units bigint,
  revenue numeric
) with (fillfactor = 50);

create index sales_hours_hour on sales_hours (hour);
