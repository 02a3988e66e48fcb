// What only a page with a system behind it has: the events while they happen, what is
// armed, every button, and the verdict.

let points = [], source, shown

function listen() {
  const { kind, id } = route(), wanted = kind === 'run' ? '' : id
  if (source && shown === wanted) return
  source?.close()
  shown = wanted
  if (kind !== 'run') forget()
  source = new EventSource('api/events?id=' + encodeURIComponent(wanted))
  source.onopen = () => { if (route().kind !== 'run') events = new Map() } // all of it comes again, perhaps from another run
  source.onerror = () => { $('sources').className = 'bad'; $('sources').textContent = 'the server does not answer' }
  source.addEventListener('events', m => arrived(JSON.parse(m.data)))
  source.addEventListener('state', m => {
    const seen = JSON.stringify(state?.subjects)
    state = JSON.parse(m.data)
    if (seen && seen !== JSON.stringify(state.subjects)) settle()
    showState()
  })
}

function arrived(batch) {
  take(batch)
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

// --- predict first ---

// asked is what the page asks before it plays: the questions of the experiment that has the
// same fault, and of an order two of which the page itself measures the answers.
let asked

const always = [
  { text: 'How does the order end?', choices: ['confirmed', 'cancelled', 'pending'], of: rows => rows.find(r => r.table === 'orders')?.cols.status,
    why: () => steps.some(e => e.kind === 'redeliver') ? 'What was committed is still there after the kill, and the broker delivers again what was not acknowledged.' : '' },
  { text: 'How many charges has the processor for it?', choices: ['0', '1', '2'], of: rows => String(rows.filter(r => r.table === 'processor_charges').length),
    why: () => steps.some(e => e.text.includes('the recorded answer again')) ? 'Payments asks again with the same key, and the processor gives the answer that it has on record for it.' : '' },
]

// predict looks whether what is armed meets what is placed.
function predict(path) {
  const kind = { order: /^(?!.*(refund|payout|twophase|reconcile|void))/, refund: /refund/, payout: /payout|twophase/ }[path]
  const point = [...armedHere, ...(state?.armed ?? []).filter(a => a.action === 'crash').map(a => a.point)].find(p => kind?.test(p))
  armedHere.clear()
  const x = point && experiments.find(x => x.points?.includes(point))
  const ask = !point ? [] : [...(path === 'order' ? always : []), ...(x?.ask ?? [])]
  asked = ask.length ? { x, point, id: 'live ' + Date.now(), ask, open: true } : undefined
}
const armedHere = new Set() // not told by the server yet

function asking(main) {
  const { kind, id } = route()
  if (asked && kind !== 'key' && kind !== 'run' && (asked.about ??= id) !== id) asked = undefined // went elsewhere
  if (!asked || kind === 'run' || saidOf.has(asked.id)) return false
  const says = points.find(p => p.point === asked.point)?.says
  if (!main.querySelector('.ask')) main.replaceChildren(questions(asked.id, 'What will happen?', asked.ask, [
    h('p', {}, h('b', {}, 'Armed: '), `a crash at ${asked.point}. When it strikes, ${says}.`),
    asked.x ? h('p', { className: 'hint' }, 'The questions are those of the experiment ', h('a', { href: '#run/' + asked.x.id }, asked.x.id), '. What you see here is the system with the pattern.') : ''],
  () => { cursor = -1; saidOf.get(asked.id).length ? play() : follow() }))
  return true
}

// graded says, when the timeline was seen, what was right.
function graded() {
  if (!asked || route().kind === 'run' || !saidOf.get(asked.id)?.length || playing) return ''
  const { rows } = fold(steps, steps.length - 1)
  return h('details', { className: 'graded', open: asked.open, ontoggle: t => { asked.open = t.target.open } }, h('summary', {}, 'Was I right?'),
    marks(asked.ask.map(q => q.of instanceof Function ? { ...q, answer: q.of(rows) ?? 'not known', why: q.why() } : q), saidOf.get(asked.id)),
    asked.x ? h('p', {}, 'Measured in the recorded run: ', h('a', { href: `#run/${asked.x.id}/seen` }, 'without the pattern and with it, side by side'), '.') : '')
}

function labButtons(kind, id, button) {
  return kind === 'order' ? [
    button('Refund', 'POST /v1/refunds for all that is left', () => act('refund', { orderID: id })),
    button('Cancel', 'POST /v1/orders/{id}/cancel', () => act('cancel', { orderID: id })),
  ] : []
}

// --- what is beside the timeline ---

function showState() {
  const missing = Object.entries(state.sources).filter(([, why]) => why)
  $('sources').className = missing.length ? 'bad' : 'good'
  $('sources').textContent = missing.length ? 'not watched: ' + missing.map(([n, why]) => n + (why === 'starting' ? '' : `: ${why}`)).join('; ') : 'recording'
  const armed = [...(state.armed ?? []).map(a => `${a.action} at ${a.point} in ${a.service}${a.hit > 1 ? `, in ${a.hit} hits` : ''}`),
    ...(state.world ?? []).map(r => `${r.contract}: ${r.fault}${r.times ? ` ×${r.times - (r.struck ?? 0)}` : ', always'}`),
    ...state.processes.filter(p => p.state === 'paused').map(p => p.name + ' paused'), ...(state.links ?? []).filter(l => l.state).map(l => `network to ${l.name} ${l.state}`)]
  $('armed').replaceChildren(...armed.map(a => h('mark', {}, a)))
  $('disarm').disabled = !armed.length
  const press = (path, name, verbs) => h('td', {}, verbs.map(what => h('button', { disabled: !state.signals, textContent: what, aria: { 'aria-label': `${what} ${name}` }, onclick: () => act(path, { name, do: what }) })))
  rows('processes', state.processes.map(p => [p.name, p.pid ? `pid ${p.pid}` : '', p.state === 'runs' ? '' : p.state, press('process', p.name, ['kill', p.state === 'paused' ? 'resume' : 'pause', 'restart'])]))
  rows('links', (state.links ?? []).map(l => [l.name, '', l.state, press('network', l.name, l.state ? ['heal'] : ['cut', 'slow'])]))
  $('processes').caption.textContent = state.signals ? 'Processes and servers' : 'Processes. To kill and pause them and the servers, and to cut the network: make run. Here, arm a crash.'
  $('links').hidden = !state.links?.length
  const flows = state.stream.rate > 0
  $('stream').querySelector('button').textContent = flows ? 'Stop' : 'Start'
  $('flow').textContent = flows || state.stream.placed ? `${state.stream.placed} placed${flows ? `, ${state.stream.rate} a second` : ''}; ${state.stream.ended} orders have ended${pace()}` : ''
  $('subjects').replaceChildren(...(state.subjects ?? []).map(s => h('li', {}, h('a', { href: `#${s.kind}/${s.id}`, title: s.id, aria: route().id === s.id ? { 'aria-current': 'page' } : {} }, s.kind, ' ', h('code', {}, short(s.id).replace(/^.*…/, '…'))), h('small', {}, s.status))))
  const em = $('main').querySelector('.bar em'), mine = state.subjects?.find(s => s.id === route().id)
  if (em && mine) em.textContent = mine.status
}

function rows(table, all) {
  $(table).tBodies[0].replaceChildren(...all.map(([name, title, state, buttons]) => h('tr', { title }, h('th', { scope: 'row' }, name, state ? h('small', { className: 'bad' }, ' ' + state) : ''), buttons)))
}

// pace is how many orders have ended in the last seconds.
const ends = []
function pace() {
  const now = performance.now()
  ends.push([now, state.stream.ended])
  while (ends.length > 2 && now - ends[0][0] > 5000) ends.shift()
  const [then, was] = ends[0]
  return now - then > 2000 ? `, ${((state.stream.ended - was) / (now - then) * 1000).toFixed(1)} a second` : ''
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
    if (path === 'arm' && body.action === 'crash') armedHere.add(body.point)
    if (path === 'disarm') armedHere.clear()
    if (['order', 'refund', 'payout'].includes(path)) predict(path)
    if (out.status >= 400) { const p = JSON.parse(out.answer); $('said').textContent = `${out.status} ${p.detail ?? p.title}` }
    const kind = { order: 'order', refund: 'refund', payout: 'payout' }[path]
    if (kind) location.hash = out.id ? `#${kind}/${out.id}` : out.status >= 400 && route().id ? location.hash : `#key/${out.key}`
    settle()
  } catch (e) { $('said').textContent = e.message }
}

const form = (id, send) => $(id).addEventListener('submit', s => { s.preventDefault(); send($(id).elements) })
form('order', f => act('order', { card: f.card.value, sku: f.sku.value, quantity: Number(f.quantity.value) }))
form('stream', f => { const o = $('order').elements; act('stream', { rate: state?.stream.rate > 0 ? 0 : Number(f.rate.value), card: o.card.value, sku: o.sku.value }) })
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

// --- what waits for a person ---

let waits, looking

async function showOperator() {
  const main = $('main')
  if (looking) return
  looking = true
  if (!main.querySelector('.operator')) main.replaceChildren(h('p', { className: 'hint' }, 'Looking …'))
  try { waits = await call('operator') } catch (e) { return main.replaceChildren(h('div', { className: 'operator' }, h('p', { className: 'bad' }, e.message), again())) } finally { looking = false }
  if (route().kind !== 'operator') return
  const decide = (text, body) => h('button', { textContent: text, onclick: async () => { await act('resolve', body); showOperator() } })
  const part = (title, none, list, heads, cells) => h('section', {}, h('h3', {}, title), list?.length ? h('table', {}, h('thead', {}, h('tr', {}, heads.map(t => h('th', {}, t)))), h('tbody', {}, list.map(x => h('tr', {}, cells(x).map(c => h('td', {}, c)))))) : h('p', { className: 'hint' }, none))
  const body = (title, text) => h('details', {}, h('summary', {}, title), h('pre', {}, pretty(text)))
  const errors = [...new Map(waits.messages.map(m => [m.queue + m.error, m])).values()]
  const r = waits.reconciliation, side = v => v == null ? 'nothing' : h('pre', {}, JSON.stringify(v, null, 1))
  main.replaceChildren(h('div', { className: 'operator verdict' }, h('div', { className: 'bar' }, h('h2', {}, 'Operator'), again()),
    part('Parked messages', 'None is parked.', waits.messages, ['queue', 'message', 'tries', 'since', 'error', ''], m => [m.queue, body(parsed(m.body).type ?? m.id, m.body), String(m.tries), m.since, m.error, decide('Replay', { do: 'replay', queue: m.queue, id: m.id })]),
    errors.length ? h('p', {}, errors.map(m => decide(`Replay all of ${m.queue} with: ${m.error.slice(0, 60)}`, { do: 'replay', queue: m.queue, error: m.error })),
      [...new Set(errors.map(m => m.queue))].map(queue => decide(`Replay all of ${queue} older than a minute`, { do: 'replay', queue, seconds: 60 }))) : '',
    part('Callbacks given up on', 'None was given up on.', waits.callbacks, ['about', 'to', 'tries', 'since', 'error', ''], c => [h('span', {}, linked(c.subject)), c.url, String(c.attempts), c.since, c.error, decide('Send again', { do: 'call back', id: c.id })]),
    part('Transactions in doubt', 'None is prepared.', waits.prepared, ['name', 'database', 'age', 'the coordinator says', ''], p => [h('span', {}, linked(p.gid)), p.database, p.age, p.decision, h('span', {}, decide('Commit', { do: 'commit', id: p.gid }), decide('Abort', { do: 'abort', id: p.gid }))]),
    part('Payouts whose outcome is unknown', 'Each payout is known as sent or failed.', waits.payouts, ['payout', 'amount', 'since', '', 'the bank says'], p => [h('span', {}, linked(p.id)), `${(p.minor / 100).toFixed(2)} ${p.currency}`, p.since, p.on_statement ? 'on the statement; the next reconciliation ends it' : 'not on the statements so far', h('span', {}, decide('Sent', { do: 'sent', id: p.id }), decide('Not sent', { do: 'failed', id: p.id }))]),
    part('Differences of the last reconciliation', r.id ? 'Both sides agree.' : 'There was none yet.', r.differences, ['about', 'with', 'ours', 'theirs', 'verdict'], d => [h('span', {}, linked(d.reference)), `${d.source}, ${d.kind}`, side(d.ours), side(d.theirs), `${d.verdict}: ${d.finding}. ${d.note}`]),
    h('p', {}, decide('Reconcile now', { do: 'reconcile' }))))
}
const again = () => h('button', { textContent: 'Look again', onclick: showOperator })

// --- the beginning ---

const tries = [
  ['An order, and nothing goes wrong', [], ['order', { card: '4242424242424242', sku: 'mug', quantity: 1 }]],
  ['payments is killed after the processor has answered', [['arm', { service: 'payments', point: 'payments.authorise.after-processor', action: 'crash', hit: 1 }]], ['order', { card: '4242424242424242', sku: 'mug', quantity: 1 }]],
  ['The processor holds the money, and its answer is lost', [], ['order', { card: '4000000000000069', sku: 'mug', quantity: 1 }]],
  ['The capture fails, and the order is compensated', [], ['order', { card: '4000000000000341', sku: 'shirt', quantity: 1 }]],
  ['A payout, killed when it is decided and no one has been told (sell something first)', [['arm', { service: 'payments', point: 'twophase.after-decision', action: 'crash', hit: 1 }]], ['payout', { minor: 100 }]],
]

function showStart() {
  $('moment').replaceChildren()
  $('main').replaceChildren(h('div', { className: 'start' }, h('h2', {}, 'See a failure in time'),
    h('p', {}, 'Place something on the left, or try one of these. Each shows every commit, message and call while it happens; step through it with the arrow keys, and see on the right what stands where at that moment.'),
    h('ul', {}, tries.map(([text, before, then]) => h('li', {}, h('button', { textContent: text, onclick: async () => { for (const [path, body] of before) await act(path, body); await act(...then) } })))),
    h('p', {}, h('a', { href: '#all' }, 'Take a pattern away'), ': the system without it beside the system with it, under the same fault, in 24 recorded experiments.'),
    h('p', {}, 'Keys: ', ...['↓', '↑', 'Home', 'End', 'Space'].flatMap(k => [h('kbd', {}, k), ' ']), 'step on, back, to the first, follow live, play.')))
}

function begin() {
  loadPoints()
  judge()
}
