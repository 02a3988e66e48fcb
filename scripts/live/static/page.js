// The page: what the server has observed, as a timeline, and what stands where at the
// step under the cursor. That state is not asked of anyone: it is the rows of the
// databases' logs, applied one after the other up to the cursor.

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
let state, points = [], source, shown = ''

function route() {
  const [kind = '', id = '', step] = location.hash.slice(1).split('/')
  return { kind, id, step }
}

function listen() {
  const { id, step } = route()
  if (source && shown === id) return
  source?.close()
  shown = id
  events = new Map()
  steps = []
  cursor = -1
  live = !step
  source = new EventSource('api/events?id=' + encodeURIComponent(id))
  source.onopen = () => { events = new Map() } // all of it comes again, perhaps from another run
  source.onerror = () => { $('sources').className = 'bad'; $('sources').textContent = 'the server does not answer' }
  source.addEventListener('events', m => take(JSON.parse(m.data)))
  source.addEventListener('state', m => {
    const seen = JSON.stringify(state?.subjects)
    state = JSON.parse(m.data)
    if (seen && seen !== JSON.stringify(state.subjects)) settle()
    showState()
  })
}

function take(batch) {
  for (const e of batch) events.set(e.seq, Object.assign(e, { t: micros(e.at) }))
  const at = steps[cursor]?.seq
  steps = [...events.values()].sort((a, b) => a.t - b.t || a.seq - b.seq)
  const wanted = Number(route().step)
  if (live) cursor = steps.length - 1
  else if (at) cursor = steps.findIndex(e => e.seq === at)
  else if (wanted) cursor = Math.min(wanted, steps.length) - 1
  if (route().kind === 'key') { // placed, and perhaps its id is known now
    const made = steps.flatMap(e => e.rows ?? []).filter(r => r.op === 'INSERT')
    for (const [table, kind] of [['payouts', 'payout/pyo_'], ['refunds', 'refund/rfd_'], ['orders', 'order/ord_']]) {
      const row = made.findLast(r => r.table === table)
      if (row) return location.replace(`#${kind}${row.cols.id}`)
    }
  }
  show()
  settle()
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
  const { step, outcome } = JSON.parse(e.more).data ?? {}
  return step ? `: ${step} ${outcome}` : ''
}

// where says in which of the sixteen half lanes what is drawn: an event has a row of its
// own, so its text may reach over the other lanes, to the side that has more room.
function where(e) {
  const to = Math.max(0, lanes.indexOf(e.lane)), from = e.from ? Math.max(0, lanes.indexOf(e.from)) : to
  const min = Math.min(from, to), max = Math.max(from, to)
  const text = 7 - max >= min ? [2 * max + 2, 17] : [1, 2 * min + 2]
  return { arrow: [2 * min + 2, 2 * max + 2], back: to < from, wide: max - min > 4, text, left: 7 - max < min }
}

function row(e, i, down, begun) {
  const w = where(e)
  const li = h('li', { className: `step ${e.kind}${w.left ? ' left' : ''}${w.wide ? ' wide' : ''}`, id: 'step-' + (i + 1), aria: { role: 'option', 'aria-selected': i === cursor } },
    h('time', { dateTime: e.at, title: e.at }, offset(e.t - begun)))
  const track = h('div', { className: 'track' })
  track.style.backgroundImage = lanes.map(l => `linear-gradient(var(--${down.get(l) ?? 'lane'}) 0 0)`).join()
  track.style.backgroundPosition = lanes.map((_, n) => `calc(${(n + .5) * 12.5}% + ${((n + .5) / 8 - .5) * 2}px) 0`).join()
  const mark = h('i', { className: e.from && e.from !== e.lane ? 'arrow' + (w.back ? ' back' : '') : 'dot' })
  mark.style.gridColumn = mark.className === 'dot' ? `${w.arrow[0] - 1} / ${w.arrow[0] + 1}` : w.arrow.join(' / ')
  const text = h('span', { title: e.text }, label(e))
  text.style.gridColumn = (w.wide ? w.arrow : w.text).join(' / ')
  track.append(mark, text)
  li.append(track)
  li.onclick = () => move(i)
  return li
}

function offset(ms) {
  return ms < 10000 ? `${ms.toFixed(1)} ms` : `${(ms / 1000).toFixed(2)} s`
}
const micros = at => Date.parse(at) + Number('0.' + (at.match(/\.\d{3}(\d+)/)?.[1] ?? 0))

const titles = { order: 'Order', refund: 'Refund', payout: 'Payout', key: 'Key', id: '' }

function show() {
  const { kind, id } = route()
  if (kind === 'verdict') return showVerdict()
  if (!id) return showStart()
  const begun = steps.find(e => !['gap', 'lab', 'started', 'died', 'paused', 'resumed'].includes(e.kind))?.t ?? steps[0]?.t
  const down = new Map()
  const rows = steps.map((e, i) => {
    const li = row(e, i, down, begun)
    if (e.kind === 'died') down.set(e.lane, 'red')
    if (e.kind === 'paused') down.set(e.lane, 'amber')
    if (e.kind === 'started' || e.kind === 'resumed') down.delete(e.lane)
    return li
  })
  const main = $('main'), held = main.contains(document.activeElement) && name(document.activeElement)
  const status = state?.subjects?.find(s => s.id === id)?.status ?? ''
  const button = (text, title, onclick, props) => h('button', { textContent: text, title, onclick, ...props })
  $('main').replaceChildren(h('div', { className: 'head' },
    h('div', { className: 'bar' },
      h('h2', {}, `${titles[kind] ?? ''} `, h('code', { title: id }, short(id)), h('em', {}, status)),
      kind === 'order' ? [
        button('Refund', 'POST /v1/refunds for all that is left', () => act('refund', { orderID: id })),
        button('Cancel', 'POST /v1/orders/{id}/cancel', () => act('cancel', { orderID: id })),
      ] : [],
      h('span', { className: 'steps' },
        button('«', 'first step (Home)', () => move(0)), button('‹', 'one step back (Up)', () => move(cursor - 1)),
        h('output', {}, `${cursor + 1} / ${steps.length}`),
        button('›', 'one step on (Down)', () => move(cursor + 1)),
        button(playing ? 'Pause' : 'Play', 'play (Space)', play),
        button('Live', 'follow what happens (End)', follow, { className: live ? 'on' : '' }))),
    h('div', { className: 'lanes' }, h('span'), h('div', {}, lanes.map(l => h('b', { className: down.get(l) ?? '' }, l))))),
    h('ol', { className: 'steps-list', tabIndex: 0, aria: { role: 'listbox', 'aria-label': 'timeline', 'aria-activedescendant': 'step-' + (cursor + 1) } }, rows),
    steps.length ? '' : h('p', { className: 'hint' }, 'Nothing of this was seen since the recording began.'))
  main.querySelector('[aria-selected=true]')?.scrollIntoView({ block: 'nearest' })
  if (held) [...main.querySelectorAll('button, ol')].find(e => name(e) === held)?.focus({ preventScroll: true })
  showMoment()
}
const name = e => e.title || e.className

function move(to) {
  if (!steps.length) return
  cursor = Math.max(0, Math.min(steps.length - 1, to))
  live = false
  const { kind, id } = route()
  history.replaceState(null, '', `#${kind}/${id}/${cursor + 1}`)
  show()
}

function follow() {
  live = true
  cursor = steps.length - 1
  const { kind, id } = route()
  history.replaceState(null, '', `#${kind}/${id}`)
  show()
}

function play() {
  if (playing) { clearInterval(playing); playing = 0; return show() }
  if (cursor >= steps.length - 1) cursor = -1
  playing = setInterval(() => {
    if (cursor >= steps.length - 2) { clearInterval(playing); playing = 0 }
    move(cursor + 1)
  }, 400)
  move(cursor + 1)
}

document.addEventListener('keydown', k => {
  if (k.target.closest('input, select, button, a, summary') || k.ctrlKey || k.metaKey || k.altKey) return
  const keys = { ArrowDown: () => move(cursor + 1), j: () => move(cursor + 1), ArrowUp: () => move(cursor - 1), k: () => move(cursor - 1), Home: () => move(0), End: follow, ' ': play }
  if (!keys[k.key] || !route().id) return
  k.preventDefault()
  keys[k.key]()
})

// --- what stands where at the cursor ---

function fold(upTo) {
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
      const id = JSON.parse(e.more).id, m = messages.get(id) ?? { type: JSON.parse(e.more).type, out: 0, in: 0 }
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
  processor_tokens: c => short(c.token), bank_transfers: c => `${money(c)} ${short(c.reference)}`, merchant_deliveries: c => `${JSON.parse(c.body || '{}').type}: ${c.answered == 0 ? 'no answer' : c.answered}`,
}
const names = { inbox: 'change record', idempotency_keys: 'key', processor_idempotency: 'key' }

const opened = new Set() // stays open from step to step

function showMoment() {
  const e = steps[cursor]
  if (!e) return $('moment').replaceChildren()
  const { rows, messages, heard } = fold(cursor)
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
    h('article', { className: e.kind }, h('p', {}, h('b', {}, e.from ? `${e.from} → ${e.lane}` : e.lane), ' ', verb[e.kind] ? label(e) : e.text), e.gid ? h('code', {}, e.gid) : '', e.more ? h('pre', {}, pretty(e.more)) : ''),
    ...lanes.filter(l => of[l]?.length).map(l => h('section', {}, h('h3', {}, l), h('ul', {}, of[l]))))
}

function pretty(text) {
  try { return JSON.stringify(JSON.parse(text), null, 1) } catch { return text ?? '' }
}

// --- what is beside the timeline ---

function showState() {
  const missing = Object.entries(state.sources).filter(([, why]) => why)
  $('sources').className = missing.length ? 'bad' : 'good'
  $('sources').textContent = missing.length ? 'not watched: ' + missing.map(([n, why]) => n + (why === 'starting' ? '' : `: ${why}`)).join('; ') : 'recording'
  const armed = [...(state.armed ?? []).map(a => `${a.action} at ${a.point} in ${a.service}${a.hit > 1 ? `, in ${a.hit} hits` : ''}`),
    ...(state.world ?? []).map(r => `${r.contract}: ${r.fault}${r.times ? ` ×${r.times - (r.struck ?? 0)}` : ', always'}`),
    ...state.processes.filter(p => p.state === 'paused').map(p => p.name + ' paused')]
  $('armed').replaceChildren(...armed.map(a => h('mark', {}, a)))
  $('disarm').disabled = !armed.length
  $('processes').tBodies[0].replaceChildren(...state.processes.map(p => h('tr', {}, h('th', { scope: 'row' }, p.name), h('td', { className: p.state === 'runs' ? '' : 'bad' }, p.state === 'runs' ? String(p.pid || 'runs') : p.state),
    h('td', {}, ['kill', p.state === 'paused' ? 'resume' : 'pause'].map(what => h('button', { disabled: !state.signals, textContent: what, aria: { 'aria-label': `${what} ${p.name}` }, onclick: () => act('process', { name: p.name, do: what }) }))))))
  $('processes').caption.textContent = state.signals ? 'Processes' : 'Processes (to kill or pause them: make run)'
  $('subjects').replaceChildren(...(state.subjects ?? []).map(s => h('li', {}, h('a', { href: `#${s.kind}/${s.id}`, title: s.id, aria: route().id === s.id ? { 'aria-current': 'page' } : {} }, s.kind, ' ', h('code', {}, short(s.id).replace(/^.*…/, '…'))), h('small', {}, s.status))))
  const em = $('main').querySelector('.bar em'), mine = state.subjects?.find(s => s.id === route().id)
  if (em && mine) em.textContent = mine.status
}

async function call(path, body) {
  const answer = await fetch('api/' + path, body && { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(body) })
  if (!answer.ok) throw new Error(await answer.text())
  return answer.json()
}

// act does what a button says, and goes to the timeline of what was placed.
async function act(path, body) {
  $('said').textContent = ''
  try {
    const out = await call(path, body)
    if (out.status >= 400) { const p = JSON.parse(out.answer); $('said').textContent = `${out.status} ${p.detail ?? p.title}` }
    const kind = { order: 'order', refund: 'refund', payout: 'payout' }[path]
    if (kind) location.hash = out.id ? `#${kind}/${out.id}` : out.status >= 400 && route().id ? location.hash : `#key/${out.key}`
    settle()
  } catch (e) { $('said').textContent = e.message }
}

const form = (id, send) => $(id).addEventListener('submit', s => { s.preventDefault(); send($(id).elements) })
form('order', f => act('order', { card: f.card.value, sku: f.sku.value, quantity: Number(f.quantity.value) }))
form('payout', f => act('payout', { minor: Number(f.minor.value) }))
form('arm', f => act('arm', { point: f.point.value, service: f.service.value, action: f.action.value, hit: Number(f.hit.value), delayMS: f.action.value === 'delay' ? Number(f.delay.value) : 0 }))
form('world', f => act('world', { contract: f.contract.value, fault: f.fault.value, times: Number(f.times.value), delayMS: Number(f.delay.value) }))
$('disarm').onclick = () => act('disarm', {})

function choose() {
  const f = $('arm').elements, p = points.find(p => p.point === f.point.value)
  $('says').replaceChildren(`When it strikes, ${p.says}.`, ...(p.code ?? []).map(c => h('code', {}, c)))
  f.service.replaceChildren(...p.services.map(s => h('option', {}, s)))
}

async function loadPoints() {
  points = await call('points')
  const groups = Map.groupBy(points, p => p.point.split('.').slice(0, 2).join('.').replace(/\.(before|after).*/, ''))
  $('arm').elements.point.replaceChildren(...[...groups].map(([name, list]) => h('optgroup', { label: name }, list.map(p => h('option', { value: p.point }, p.point)))))
  $('arm').elements.point.value = 'payments.authorise.after-processor'
  $('arm').elements.point.onchange = choose
  choose()
}

// --- the verdict ---

let verdict, due

// settle asks for the verdict once nothing has happened for a while.
function settle() {
  clearTimeout(due)
  due = setTimeout(judge, 2000)
}

async function judge() {
  try { verdict = await call('verdict') } catch (e) { verdict = { busy: e.message, results: [] } }
  const red = verdict.results.filter(r => r.Violations?.length)
  $('verdict').className = verdict.busy ? 'busy' : red.length ? 'bad' : 'good'
  $('verdict').textContent = verdict.busy ? `still going on: ${verdict.busy}` : red.length ? red.length > 2 ? `${red.length} invariants are violated` : `violated: ${red.map(r => r.ID).join(', ')}` : `${verdict.results.length} invariants hold`
  if (verdict.busy) settle()
  if (route().kind === 'verdict') showVerdict()
}

const linked = text => text.split(/((?:ord|pay|rfd|pyo)_[0-9a-f-]{36})/).map((part, i) => i % 2 ? h('a', { href: `#${{ ord: 'order', rfd: 'refund', pyo: 'payout' }[part.slice(0, 3)] ?? 'id'}/${part}` }, part) : part)

function showVerdict() {
  $('moment').replaceChildren()
  if (!verdict) return $('main').replaceChildren(h('p', { className: 'hint' }, 'Looking …'))
  $('main').replaceChildren(h('div', { className: 'bar' }, h('h2', {}, 'Verdict'), h('button', { textContent: 'Look again', onclick: judge })),
    h('p', { className: 'hint' }, verdict.busy ? `Work is still going on (${verdict.busy}): until it has ended, some of these are rightly not true.` : 'Counted in the databases of the services and of the outside world.'),
    h('table', { className: 'verdict' }, h('thead', {}, h('tr', {}, ['invariant', 'looked at', '', 'what must hold'].map(t => h('th', {}, t)))),
      h('tbody', {}, verdict.results.map(r => h('tr', { className: r.Violations?.length ? 'bad' : '' }, h('th', { scope: 'row' }, r.ID), h('td', {}, String(r.Checked)), h('td', {}, r.Violations?.length ? 'VIOLATED' : r.NotChecked ? 'not checked' : 'holds'),
        h('td', {}, r.Says, r.NotChecked ? h('p', {}, r.NotChecked) : '', h('ul', {}, (r.Violations ?? []).map(v => h('li', {}, linked(v))), r.More ? h('li', {}, `and ${r.More} more`) : '')))))))
}

// --- the beginning ---

const tries = [
  ['An order, and nothing goes wrong', [], ['order', { card: '4242424242424242', sku: 'mug', quantity: 1 }]],
  ['payments is killed after the processor has answered', [['arm', { service: 'payments', point: 'payments.authorise.after-processor', action: 'crash', hit: 1 }]], ['order', { card: '4242424242424242', sku: 'mug', quantity: 1 }]],
  ['The processor holds the money, and its answer is lost', [], ['order', { card: '4000000000000069', sku: 'mug', quantity: 1 }]],
  ['The capture fails, and everything is walked back', [], ['order', { card: '4000000000000341', sku: 'shirt', quantity: 1 }]],
  ['A payout, killed when it is decided and no one has been told (sell something first)', [['arm', { service: 'payments', point: 'twophase.after-decision', action: 'crash', hit: 1 }]], ['payout', { minor: 100 }]],
]

function showStart() {
  $('moment').replaceChildren()
  $('main').replaceChildren(h('div', { className: 'start' }, h('h2', {}, 'See a failure in time'),
    h('p', {}, 'Place something on the left, or try one of these. Each shows every commit, message and call while it happens; step through it with the arrow keys, and see on the right what stands where at that moment.'),
    h('ul', {}, tries.map(([text, before, then]) => h('li', {}, h('button', { textContent: text, onclick: async () => { for (const [path, body] of before) await act(path, body); await act(...then) } })))),
    h('p', {}, 'Keys: ', ...['↓', '↑', 'Home', 'End', 'Space'].flatMap(k => [h('kbd', {}, k), ' ']), 'step on, back, to the first, follow live, play.')))
}

addEventListener('hashchange', () => { clearInterval(playing); playing = 0; listen(); show(); if (state) showState() })
listen()
show()
loadPoints()
judge()
