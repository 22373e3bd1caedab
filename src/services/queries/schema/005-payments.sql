-- The read model `payments`: one row per order, `body` is its OrderPaymentsView as JSON, ready to send.
create table order_payments (
  order_id text collate "C" primary key,
  version integer not null,
  body text not null
) with (fillfactor = 80);
