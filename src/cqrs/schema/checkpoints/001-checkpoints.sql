-- How far each consumer has come in the log it reads. Moved only together with the effect, and only
-- from the value the consumer last knew: a worker that was overtaken changes nothing.
create table checkpoints (
  consumer text primary key,
  position bigint not null check (position >= 0)
) with (fillfactor = 50);
