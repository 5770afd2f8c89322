"""What a program with psycopg2 does. The environment says where to connect, as libpq reads it."""

import io
import os
import threading

import psycopg2

conn = psycopg2.connect("")
cur = conn.cursor()
cur.execute("SELECT current_user")
assert cur.fetchone() == (os.environ["PGUSER"],)

# prepared statements
cur.execute("PREPARE double AS SELECT $1::int * 2")
for n in range(10):
    cur.execute("EXECUTE double (%s)", (n,))
    assert cur.fetchone() == (2 * n,)

# COPY
cur.execute("CREATE TEMPORARY TABLE numbers (n int, t text)")
rows = "".join(f"{n}\tnumber {n}\n" for n in range(10000))
cur.copy_expert("COPY numbers FROM STDIN", io.StringIO(rows))
out = io.StringIO()
cur.copy_expert("COPY numbers TO STDOUT", out)
assert out.getvalue() == rows
conn.commit()

# transactions
cur.execute("DELETE FROM numbers")
conn.rollback()
cur.execute("SELECT count(*) FROM numbers")
assert cur.fetchone() == (10000,)
try:
    cur.execute("SELECT 1/0")
    raise AssertionError("no error")
except psycopg2.errors.DivisionByZero:
    conn.rollback()

# cancel
ended = threading.Event()


def cancel():
    while not ended.wait(0.05):
        conn.cancel()


canceller = threading.Thread(target=cancel)
canceller.start()
try:
    cur.execute("SELECT pg_sleep(600)")
    raise AssertionError("not cancelled")
except psycopg2.errors.QueryCanceled:
    pass
finally:
    ended.set()
    canceller.join()
conn.rollback()
cur.execute("SELECT 1")
conn.close()
print("ok")
