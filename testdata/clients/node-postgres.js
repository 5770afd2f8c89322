// What a program with node-postgres does. The environment says where to connect.
const assert = require('assert')
const fs = require('fs')
const { pipeline } = require('stream/promises')
const { Readable } = require('stream')
const { Client, Query } = require('pg')
const copy = require('pg-copy-streams')

const config = { keepAlive: true }
if (process.env.PGSSLMODE === 'verify-full') {
  config.ssl = {
    ca: fs.readFileSync(process.env.PGSSLROOTCERT),
    cert: fs.readFileSync(process.env.PGSSLCERT),
    key: fs.readFileSync(process.env.PGSSLKEY),
  }
}

async function main() {
  const client = new Client(config)
  await client.connect()
  const value = async (query) => Object.values((await client.query(query)).rows[0])[0]
  assert.strictEqual(await value('SELECT current_user'), process.env.PGUSER)

  // prepared statements
  for (let n = 0; n < 10; n++) {
    assert.strictEqual(await value({ name: 'double', text: 'SELECT $1::int * 2', values: [n] }), 2 * n)
  }

  // COPY
  await client.query('CREATE TEMPORARY TABLE numbers (n int, t text)')
  const rows = Array.from({ length: 10000 }, (_, n) => `${n}\tnumber ${n}\n`)
  await pipeline(Readable.from(rows), client.query(copy.from('COPY numbers FROM STDIN')))
  let out = ''
  for await (const chunk of client.query(copy.to('COPY numbers TO STDOUT'))) out += chunk
  assert.strictEqual(out, rows.join(''))

  // transactions
  await client.query('BEGIN')
  await client.query('DELETE FROM numbers')
  await assert.rejects(client.query('SELECT 1/0'), { code: '22012' })
  await client.query('ROLLBACK')
  assert.strictEqual(await value('SELECT count(*)::int FROM numbers'), 10000)

  // cancel: its request goes in clear text
  const sleep = new Query('SELECT pg_sleep(600)')
  const slept = new Promise((resolve) => {
    sleep.on('error', resolve)
    sleep.on('end', () => resolve(null))
  })
  client.query(sleep)
  const cancel = setInterval(() => {
    const canceller = new Client({})
    canceller.on('error', () => {})
    canceller.cancel(client, sleep)
  }, 50)
  const err = await slept
  clearInterval(cancel)
  assert.strictEqual(err && err.code, '57014')
  await client.query('SELECT 1')
  await client.end()
  console.log('ok')
}

main().then(() => process.exit(0), (err) => {
  console.error(err)
  process.exit(1)
})
