-- What was answered under an Idempotency-Key to operators whose request moves no log: given again to the same request for
-- as long as the keys in the logs are kept.
create table kept_answers (
  caller text not null,
  key text not null,
  fingerprint text not null,
  answer json not null,
  at timestamptz not null,
  primary key (caller, key)
);

create index kept_answers_at on kept_answers using brin (at);
