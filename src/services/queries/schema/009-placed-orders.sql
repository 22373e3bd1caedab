-- What lists find an order by and sort it by: written once with the order, and never changed. All of it is in
-- one row, so that a list that no index serves alone tests its filters while it walks the index of its sort.
create table placed_orders (
  order_id text collate "C" primary key,
  customer_id text collate "C",
  placed_at timestamptz,
  total bigint,
  words tsvector
);

insert into placed_orders (order_id, customer_id, placed_at, total, words)
select order_id, customer_id, placed_at, total, words from orders join order_words using (order_id);

create index placed_orders_placed on placed_orders (placed_at, order_id);
create index placed_orders_total on placed_orders (total, order_id);
create index placed_orders_customer_placed on placed_orders (customer_id, placed_at, order_id);
create index placed_orders_customer_total on placed_orders (customer_id, total, order_id);
-- With a short list of pending entries: as it was with `order_words`.
create index placed_orders_words on placed_orders using gin (words)
  with (fastupdate = on, gin_pending_list_limit = 128);

drop table order_words;
drop index orders_placed, orders_customer, orders_total;

-- Few orders are here at a time, but thousands when a provider is down.
alter table open_orders add column placed_at timestamptz, add column total bigint;
update open_orders s set placed_at = o.placed_at, total = o.total from orders o where o.order_id = s.order_id;
create index open_orders_placed on open_orders (placed_at, order_id);
create index open_orders_total on open_orders (total, order_id);

alter table unfulfilled_orders add column customer_id text collate "C";
update unfulfilled_orders s set customer_id = o.customer_id from orders o where o.order_id = s.order_id;
create index unfulfilled_orders_customer_placed on unfulfilled_orders (customer_id, status, placed_at, order_id);
create index unfulfilled_orders_customer_total on unfulfilled_orders (customer_id, status, total, order_id);

analyze placed_orders, open_orders, unfulfilled_orders;
