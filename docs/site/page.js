// What was observed, as a timeline, and what stands where at the step under the cursor.
// That state is not asked of anyone: it is the rows of the databases' logs, applied one
// after the other up to the cursor. The events come from the server (lab.js), or from the
// recording of an experiment (runs.js).

const lanes = ['client', 'orders', 'payments', 'ledger', 'broker', 'processor', 'bank', 'merchant']
const $ = id => document.getElementById(id)

function h(tag, props, ...children) {
  const e = Object.assign(document.createElement(tag), props)
  for (const [k, v] of Object.entries(props?.aria ?? {})) e.setAttribute(k, v)
  e.append(...children.flat().filter(c => c != null))
  return e
}

const uuid = /[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/g
const short = text => String(text).replace(uuid, id => '…' + id.slice(-6))

// --- what is known ---

let events = new Map(), steps = [], cursor = -1, live = true, playing
let state

// route reads the address: order/<id>/<step>, run/<experiment>/<with or without>/<step>, …
function route() {
  const [kind = '', id = '', a, b] = location.hash.slice(1).split('/')
  if (kind !== 'run') return { kind, id, step: a, at: `#${kind}/${id}`, timeline: id !== '' }
  const half = a === 'with' || a === 'without' ? a : ''
  return { kind, id, half, seen: a === 'seen', step: half && b, at: `#run/${id}/${half}`, timeline: half !== '' }
}

function forget() {
  events = new Map()
  steps = []
  cursor = -1
  live = !route().step
}

function take(batch) {
  for (const e of batch) events.set(e.seq, Object.assign(e, { t: micros(e.at) }))
  const at = steps[cursor]?.seq
  steps = [...events.values()].sort((a, b) => a.t - b.t || a.seq - b.seq)
  const wanted = Number(route().step)
  if (live) cursor = steps.length - 1
  else if (at) cursor = steps.findIndex(e => e.seq === at)
  else if (wanted) cursor = Math.min(wanted, steps.length) - 1
}

// --- the timeline ---

const change = {
  orders: c => c.status, sagas: c => `saga ${c.phase} ${c.step}`.trim(), payments: c => `payment ${c.status}`,
  outbox: (c, op) => op === 'DELETE' ? 'outbox −1' : `outbox + ${c.type}`, inbox: () => 'inbox +1',
  idempotency_keys: c => c.status ? `key: ${c.status}` : 'key: begun', refunds: c => `refund ${c.recovery_point}`,
  payouts: c => `payout ${c.recovery_point}, ${c.outcome}`, guards: () => 'guard entered',
  twophase_decisions: c => c.finished_at ? 'decision carried out' : `decision: ${c.decision}`,
  entries: c => `entry: ${c.kind}`, sales: c => `sale ${c.state}`, callbacks: c => `callback ${c.state}`,
  received_events: c => `${c.type} ${c.applied_at ? 'applied' : 'held'}`, products: () => 'stock',
  order_lines: () => null, postings: () => null, accounts: () => 'balances',
  processor_tokens: () => 'token', processor_payment_methods: () => 'token redeemed', processor_charges: c => `charge ${c.status}`,
  processor_operations: c => `${c.kind} ${money(c)}`, processor_idempotency: c => `key: ${c.status}`,
  processor_events: c => c.delivered_at ? 'webhook delivered' : c.attempts > 0 ? `webhook, try ${c.attempts}` : 'webhook due',
  bank_transfers: c => `transfer ${money(c)}`, merchant_deliveries: c => `heard, said ${c.answered == 0 ? 'nothing' : c.answered}`,
}
const money = c => `${(c.amount_minor / 100).toFixed(2)} ${c.currency ?? ''}`
const verb = { commit: 'commit', prepare: 'PREPARE', 'commit-prepared': 'COMMIT PREPARED', 'rollback-prepared': 'ROLLBACK PREPARED' }
const word = { publish: '', deliver: '', redeliver: 'again: ', retry: '', parked: '' }

function label(e) {
  if (word[e.kind] !== undefined) return word[e.kind] + short(e.text.split(': ')[0]) + outcome(e) // its error stands on the right
  if (!verb[e.kind]) return short(e.text)
  const last = new Map((e.rows ?? []).map(r => [r.table + r.key, r])) // a row that was written twice shows how it ended
  const parts = [...last.values()].map(r => change[r.table] ? change[r.table](r.cols ?? {}, r.op) : r.table).filter(Boolean)
  const counted = [...new Set(parts)].map(p => [p, parts.filter(q => q === p).length])
  const text = counted.map(([p, n]) => n > 1 && p !== 'balances' ? `${p} ×${n}` : p).join(' · ')
  return `${verb[e.kind]}${text ? ': ' + text : ''}${e.others ? ` (and ${e.others} rows of others)` : ''}`
}

// outcome is what a participant of the saga replies.
function outcome(e) {
  const { step, outcome } = parsed(e.more).data ?? {}
  return step ? `: ${step} ${outcome}` : ''
}

// where says in which of the sixteen half lanes what is drawn: an event has a row of its
// own, so its text may reach over the other lanes, to the side that has more room.
function where(e) {
  const to = Math.max(0, lanes.indexOf(e.lane === 'PostgreSQL' ? 'payments' : e.lane)), from = e.from ? Math.max(0, lanes.indexOf(e.from)) : to
  const min = Math.min(from, to), max = Math.max(from, to)
  const text = 7 - max >= min ? [2 * max + 2, 17] : [1, 2 * min + 2]
  return { arrow: [2 * min + 2, 2 * max + 2], back: to < from, wide: max - min > 4, text, left: 7 - max < min }
}

function row(e, i, at, down, begun, pick) {
  const w = where(e)
  const li = h('li', { className: `step ${e.kind}${w.left ? ' left' : ''}${w.wide ? ' wide' : ''}`, id: 'step-' + (i + 1), aria: { role: 'option', 'aria-selected': i === at } },
    h('time', { dateTime: e.at, title: e.at }, offset(e.t - begun)))
  const track = h('div', { className: 'track' })
  track.style.backgroundImage = lanes.map(l => `linear-gradient(var(--${down.get(l) || 'lane'}) 0 0)`).join()
  track.style.backgroundPosition = lanes.map((_, n) => `calc(${(n + .5) * 12.5}% + ${((n + .5) / 8 - .5) * 2}px) 0`).join()
  const mark = h('i', { className: e.from && e.from !== e.lane ? 'arrow' + (w.back ? ' back' : '') : 'dot' })
  mark.style.gridColumn = mark.className === 'dot' ? `${w.arrow[0] - 1} / ${w.arrow[0] + 1}` : w.arrow.join(' / ')
  const text = h('span', { title: e.text }, label(e))
  text.style.gridColumn = e.kind === 'says' ? '1 / 17' : (w.wide ? w.arrow : w.text).join(' / ')
  if (e.kind !== 'says') track.append(mark)
  track.append(text)
  li.append(track)
  li.onclick = () => pick(i)
  return li
}

// drawn is a timeline: its head with the lanes, and its rows. at is the chosen step.
function drawn(steps, at, pick) {
  const begun = steps.find(e => !['gap', 'lab', 'started', 'died', 'paused', 'resumed', 'says'].includes(e.kind))?.t ?? steps[0]?.t
  const down = new Map()
  const rows = steps.map((e, i) => {
    const li = row(e, i, at, down, begun, pick)
    const state = { died: 'red', paused: 'amber', started: '', resumed: '' }[e.kind]
    for (const lane of state === undefined ? [] : e.lane === 'PostgreSQL' ? ['orders', 'payments', 'ledger'] : [e.lane]) {
      if (e.lane !== 'PostgreSQL') down.set(lane, state)
      else if (down.get(lane) !== 'red') down.set(lane, state && 'amber')
    }
    return li
  })
  return { rows, lanes: h('div', { className: 'lanes' }, h('span'), h('div', {}, lanes.map(l => h('b', { className: down.get(l) ?? '' }, l)))) }
}

function offset(ms) {
  return ms < 10000 ? `${ms.toFixed(1)} ms` : `${(ms / 1000).toFixed(2)} s`
}
const micros = at => Date.parse(at) + Number('0.' + (at.match(/\.\d{3}(\d+)/)?.[1] ?? 0))

const titles = { order: 'Order', refund: 'Refund', payout: 'Payout', key: 'Key', id: '' }

function show() {
  const { kind, id, half, timeline } = route()
  if (!timeline) {
    $('moment').replaceChildren()
    if (kind === 'run' && experiments.some(x => x.id === id)) return showRun()
    const other = { verdict: () => showVerdict(), operator: () => showOperator(), all: showAll }[kind]
    return isLive ? (other ?? showStart)() : showAll()
  }
  if (kind === 'run' && !runs.has(id)) return $('main').replaceChildren(h('p', { className: 'hint' }, 'Loading the recording …'))
  const main = $('main'), held = main.contains(document.activeElement) && name(document.activeElement)
  if (isLive && asking(main)) return $('moment').replaceChildren()
  const { rows, lanes } = drawn(steps, cursor, move)
  const button = (text, title, onclick, props) => h('button', { textContent: text, title, onclick, ...props })
  main.replaceChildren(h('div', { className: 'head' },
    h('div', { className: 'bar' },
      kind === 'run' ? h('h2', {}, h('a', { href: `#run/${id}/seen` }, id), h('em', {}, half + ' it: ' + runs.get(id)[half].says))
        : h('h2', {}, `${titles[kind] ?? ''} `, h('code', { title: id }, short(id)), h('em', {}, state?.subjects?.find(s => s.id === id)?.status ?? '')),
      isLive ? labButtons(kind, id, button) : [],
      h('span', { className: 'steps' },
        button('«', 'first step (Home)', () => move(0)), button('‹', 'one step back (Up)', () => move(cursor - 1)),
        h('output', {}, `${cursor + 1} / ${steps.length}`),
        button('›', 'one step on (Down)', () => move(cursor + 1)),
        button(playing ? 'Pause' : 'Play', 'play (Space)', play),
        kind === 'run' ? button('»', 'last step (End)', follow) : button('Live', 'follow what happens (End)', follow, { className: live ? 'on' : '' }))),
    lanes),
    h('ol', { className: 'steps-list', tabIndex: 0, aria: { role: 'listbox', 'aria-label': 'timeline', 'aria-activedescendant': 'step-' + (cursor + 1) } }, rows),
    steps.length ? '' : h('p', { className: 'hint' }, 'Nothing of this was seen since the recording began.'),
    isLive ? graded() : '')
  main.querySelector('[aria-selected=true]')?.scrollIntoView({ block: 'nearest' })
  if (live) main.querySelector('.graded')?.scrollIntoView({ block: 'end' }) // it stands below the last step
  if (held) [...main.querySelectorAll('button, ol')].find(e => name(e) === held)?.focus({ preventScroll: true })
  showMoment()
}
const name = e => e.title || e.className

function move(to) {
  if (!steps.length) return
  cursor = Math.max(0, Math.min(steps.length - 1, to))
  live = false
  history.replaceState(null, '', `${route().at}/${cursor + 1}`)
  show()
}

function follow() {
  clearInterval(playing)
  playing = 0
  if (route().kind === 'run') return move(steps.length - 1)
  live = true
  cursor = steps.length - 1
  history.replaceState(null, '', route().at)
  show()
}

function play() {
  if (playing) { clearInterval(playing); playing = 0; return show() }
  if (cursor >= steps.length - 1) cursor = -1
  playing = setInterval(() => {
    if (cursor >= steps.length - 2) return follow()
    move(cursor + 1)
  }, 400)
  move(cursor + 1)
}

document.addEventListener('keydown', k => {
  if (k.target.closest('input, select, button, a, summary') || k.ctrlKey || k.metaKey || k.altKey) return
  const keys = { ArrowDown: () => move(cursor + 1), j: () => move(cursor + 1), ArrowUp: () => move(cursor - 1), k: () => move(cursor - 1), Home: () => move(0), End: follow, ' ': play }
  if (!keys[k.key] || !route().timeline) return
  k.preventDefault()
  keys[k.key]()
})

// --- what stands where at the cursor ---

function fold(steps, upTo) {
  const tables = new Map(), messages = new Map(), heard = []
  const apply = (e, r, prepared) => {
    const key = [e.lane, r.table, r.key].join('|')
    if (r.op === 'DELETE') return tables.delete(key)
    tables.set(key, { key, lane: e.lane, table: r.table, cols: { ...tables.get(key)?.cols, ...r.cols }, prepared, fresh: e === steps[upTo] })
  }
  const prepared = new Map()
  for (const e of steps.slice(0, upTo + 1)) {
    const gid = e.lane + '|' + e.gid
    if (e.kind === 'commit') e.rows?.forEach(r => apply(e, r))
    if (e.kind === 'prepare') prepared.set(gid, e.rows ?? [])
    if (e.kind === 'commit-prepared') prepared.get(gid)?.forEach(r => apply(e, r))
    if (e.kind === 'commit-prepared' || e.kind === 'rollback-prepared') prepared.delete(gid)
    if (e.lane === 'client' && (e.kind === 'answer' || e.kind === 'no-answer')) heard.push(e)
    if (['publish', 'retry', 'parked', 'deliver', 'redeliver'].includes(e.kind)) {
      const id = idOf(e.more), m = messages.get(id) ?? { type: e.text.split(/[,:]/)[0], out: 0, in: 0 }
      if (e.from === 'broker') m.in++; else m.out++
      m.parked = e.kind === 'parked'
      m.fresh = e === steps[upTo]
      messages.set(id, m)
    }
  }
  for (const [gid, rows] of prepared) for (const r of rows) {
    tables.set(gid + r.table + r.key, { key: gid + r.table + r.key, lane: gid.split('|')[0], table: r.table, cols: r.cols ?? {}, prepared: true })
  }
  return { rows: [...tables.values()], messages: [...messages.values()], heard }
}

// tell says of a row what a person looks for first; all its columns are behind it.
const tell = {
  orders: c => `${c.status} ${c.reason}`, sagas: c => `${c.phase} ${c.step}, sent ${c.attempts}×`, outbox: c => c.type, inbox: c => `${c.source} ${short(c.message_id)}`,
  idempotency_keys: c => `${short(c.key)}: ${c.status ? 'answered ' + c.status : 'no answer yet'}`, payments: c => `${c.status} ${c.reason}${c.settled_at ? ', settled' : ''}${c.receipt_name ? ', receipt' : ''}`,
  refunds: c => `${c.recovery_point} ${c.decision}`, payouts: c => `${c.recovery_point}, ${c.outcome} ${c.failure}`, guards: c => short(c.name),
  twophase_decisions: c => `${c.decision}${c.finished_at ? ', carried out' : ''}`, entries: c => c.kind, postings: c => `${c.account_id} ${(c.amount_minor / 100).toFixed(2)}`,
  accounts: c => `${c.id} ${(c.balance_minor / 100).toFixed(2)}`, sales: c => c.state, callbacks: c => `${c.state}, ${c.attempts} tries`, received_events: c => `${c.type} ${c.applied_at ? 'applied' : 'held'}`,
  products: c => `${c.sku}: ${c.available} available, ${c.reserved} reserved, ${c.sold} sold`, order_lines: c => `${c.quantity} × ${c.sku}`,
  processor_charges: c => `${c.status}, captured ${(c.captured_minor / 100).toFixed(2)}, given back ${(c.refunded_minor / 100).toFixed(2)}`, processor_operations: c => `${c.kind} ${money(c)}`,
  processor_idempotency: c => `${short(c.key)}: ${c.status}`, processor_events: c => `${c.type}, ${c.delivered_at ? 'delivered' : 'due'}, ${c.attempts} tries`, processor_payment_methods: c => short(c.id),
  processor_tokens: c => short(c.token), bank_transfers: c => `${money(c)} ${short(c.reference)}`, merchant_deliveries: c => `${parsed(c.body).type}: ${c.answered == 0 ? 'no answer' : c.answered}`,
}
const names = { inbox: 'change record', idempotency_keys: 'key', processor_idempotency: 'key' }

const opened = new Set() // stays open from step to step

function showMoment() {
  const e = steps[cursor]
  if (!e) return $('moment').replaceChildren()
  const { rows, messages, heard } = fold(steps, cursor)
  const line = (name, text, r, cols, key = name + text) => h('li', { className: (r.fresh ? 'fresh ' : '') + (r.prepared ? 'prepared' : '') },
    h('details', { open: opened.has(key), ontoggle: t => opened[t.target.open ? 'add' : 'delete'](key) }, h('summary', {}, h('b', {}, name), ' ', text, r.prepared ? ' — prepared, not committed' : ''), cols ?? ''))
  const all = cols => h('dl', {}, Object.entries(cols).flatMap(([k, v]) => [h('dt', {}, k), h('dd', {}, v ?? 'NULL')]))
  const of = {
    client: heard.slice(-2).map(a => line('heard', short(a.text), a, h('pre', {}, pretty(a.more)))),
    broker: messages.map(m => line(m.parked ? 'parked' : m.in < m.out ? 'in a queue' : 'delivered' + (m.in > 1 ? ` ${m.in}×` : ''), m.type, m)),
  }
  for (const r of rows) (of[r.lane] ??= []).push(line(names[r.table] ?? r.table.replace(/^(processor|bank|merchant)_/, ''), (tell[r.table] ?? (c => short(JSON.stringify(c))))(r.cols), r, all(r.cols), r.key))
  $('moment').replaceChildren(
    h('h2', { id: 'moment-title' }, `At step ${cursor + 1}`),
    h('article', { className: e.kind }, h('p', {}, h('b', {}, e.from ? `${e.from} → ${e.lane}` : e.text.startsWith(e.lane) || e.kind === 'says' ? '' : e.lane), ' ', verb[e.kind] ? label(e) : e.text), e.gid ? h('code', {}, e.gid) : '', e.more ? h('pre', {}, pretty(e.more)) : ''),
    ...lanes.filter(l => of[l]?.length).map(l => h('section', {}, h('h3', {}, l), h('ul', {}, of[l]))))
}

const idOf = text => text.match(/"id":"([^"]+)"/)?.[1]

function parsed(text) {
  try { return JSON.parse(text) ?? {} } catch { return {} } // a long one was cut in a recording
}

function pretty(text) {
  try { return JSON.stringify(JSON.parse(text), null, 1) } catch { return text ?? '' }
}

// --- addresses ---

const isLive = 'live' in document.documentElement.dataset

function go() {
  clearInterval(playing)
  playing = 0
  if (route().kind === 'run') loadRun()
  if (isLive) listen()
  show()
  if (state) showState()
}
addEventListener('hashchange', go)
addEventListener('DOMContentLoaded', () => {
  listAll()
  if (isLive) begin()
  go()
})
