-- What the payment streams add up to. The check is the last line against giving back more than was taken.
create table payments (
  order_id text primary key,
  payment_id text not null unique,
  version integer not null,
  status text not null check (status in ('requested', 'captured', 'declined', 'voided', 'refunding', 'refunded')),
  amount bigint not null check (amount >= 0),
  currency char(3) not null,
  captured bigint not null check (captured in (0, amount)),
  refunded bigint not null check (refunded between 0 and captured)
) with (fillfactor = 70);

create or replace function write_inline_tables(new_states json, new_events json) returns void
language plpgsql
set plan_cache_mode = force_generic_plan
as $$
begin
  insert into payments (order_id, payment_id, version, status, amount, currency, captured, refunded)
  select
    p.order_id, p.payment_id, p.version, p.status, p.amount, p.currency,
    case when p.status in ('captured', 'refunding', 'refunded') then p.amount else 0 end,
    case when p.status = 'refunded' then p.amount else 0 end
  from (
    select
      w.state ->> 'orderId' as order_id, w.state ->> 'paymentId' as payment_id, w.v as version,
      w.state ->> 'status' as status, (w.state #>> '{amount,amount}')::bigint as amount,
      w.state #>> '{amount,currency}' as currency
    from json_to_recordset(new_states) as w(s text, v integer, state json)
  ) as p
  on conflict (order_id) do update
    set version = excluded.version, status = excluded.status, captured = excluded.captured, refunded = excluded.refunded;
end
$$;
