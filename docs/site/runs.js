// The experiments: first the questions, then the edit, and what happened without the
// pattern beside what happened with it. Each was recorded on the real system; a recording
// is a script, because a page that was opened from the disk may read no other file.

const runs = new Map()

function loadRun() {
  const { id, half } = route()
  forget()
  if (runs.has(id)) return fill(half)
  if (experiments.some(x => x.id === id)) document.head.append(h('script', { src: `runs/${id}.js` }))
}

// recorded is what a recording calls. It keeps of a changed row only what has changed, and a
// message where it is published.
function recorded(id, run) {
  for (const half of ['without', 'with']) {
    const was = new Map(), messages = new Map()
    for (const e of run[half].events) {
      for (const r of e.rows ?? []) {
        const key = [e.lane, r.table, r.key].join('|')
        if (r.op === 'UPDATE') r.cols = { ...was.get(key), ...r.cols }
        was.set(key, r.cols)
      }
      if (e.from === 'broker') e.more = messages.get(parsed(e.more).id) ?? e.more
      else if (e.lane === 'broker' && e.more) messages.set(idOf(e.more), e.more)
    }
    const begun = Date.parse(run[half].begun)
    const told = run[half].lines.map((l, i) => ({ seq: 1e9 + i, at: new Date(begun + l.at_ms).toISOString(), kind: 'says', lane: 'client', text: l.text }))
    run[half].steps = [...run[half].events, ...told].map(e => Object.assign(e, { t: micros(e.at) })).sort((a, b) => a.t - b.t || a.seq - b.seq)
  }
  runs.set(id, run)
  if (route().kind === 'run' && route().id === id) { fill(route().half); show() }
}

function fill(half) {
  if (!half) return
  steps = runs.get(route().id)[half].steps
  live = false
  cursor = Math.max(0, Math.min(steps.length, Number(route().step) || 1) - 1)
}

// --- predict first ---

const saidOf = new Map() // what was answered, by what was asked about

// questions asks them; then has them kept and goes on.
function questions(id, title, ask, text, then) {
  const form = h('form', { className: 'ask' }, h('h2', {}, title), ...text,
    ask.map((q, i) => h('fieldset', {}, h('legend', {}, q.with === undefined ? '' : h('b', {}, q.with ? 'With the pattern. ' : 'Without the pattern. '), q.text),
      q.choices.map(c => h('label', {}, h('input', { type: 'radio', name: 'q' + i, value: c }), c)))),
    h('p', {}, h('button', { className: 'first', textContent: 'Show what happens' }), ' ', h('button', { type: 'button', textContent: 'Just show me', onclick: () => end([]) })))
  const end = said => { saidOf.set(id, said); then() }
  form.onsubmit = s => { s.preventDefault(); end(ask.map((_, i) => form.elements['q' + i].value)) }
  return form
}

// marks holds what was said against what was measured.
function marks(ask, said) {
  return h('ol', { className: 'marks' }, ask.map((q, i) => h('li', { className: !said[i] ? '' : said[i] === q.answer ? 'good' : 'bad' },
    h('p', {}, q.with === undefined ? '' : h('b', {}, q.with ? 'With the pattern. ' : 'Without the pattern. '), q.text), h('p', {}, h('b', {}, 'It was: ' + q.answer), said[i] ? `; you said: ${said[i]}. ` : '. ', q.why ?? ''))))
}

// --- take it away ---

const pageOf = id => (isLive ? 'https://github.com' : '..') && `../patterns/${id}.md`

function showRun() {
  const { id, seen } = route(), x = experiments.find(x => x.id === id), i = experiments.indexOf(x), run = runs.get(id)
  const head = [h('p', { className: 'says' }, x.says), h('p', {}, h('b', {}, 'Fault: '), x.fault, '.')]
  const way = h('p', { className: 'hint' }, i > 0 ? h('a', { href: '#run/' + experiments[i - 1].id }, '← ' + experiments[i - 1].id) : '', ' ', i + 1 < experiments.length ? h('a', { href: '#run/' + experiments[i + 1].id }, experiments[i + 1].id + ' →') : '')
  if (!seen && !saidOf.has(id)) {
    return $('main').replaceChildren(questions(id, id, x.ask, [...head, h('p', { className: 'hint' }, 'What will happen? The system runs once without the pattern, once with it.')], () => { location.hash = `#run/${id}/seen` }), way)
  }
  $('main').replaceChildren(h('div', { className: 'run' }, h('div', { className: 'bar' }, h('h2', {}, id), h('code', {}, 'go run ./scripts/lab run ' + id)), head,
    marks(x.ask, saidOf.get(id) ?? []),
    h('details', { open: true }, h('summary', {}, h('h3', {}, 'The edit that takes it away')), h('pre', { className: 'diff' }, x.edit.split('\n').map(l => h('span', { className: /^(---|\+\+\+)/.test(l) ? 'file' : { '+': 'add', '-': 'del' }[l[0]] ?? '' }, l)))),
    h('div', { className: 'halves' }, ['without', 'with'].map(half => {
      const verdict = h('p', { className: x[half].good ? 'good' : 'bad' }, `${x[half].good ? '✓' : '✗'} ${x[half].says}`)
      const top = h('h3', {}, half === 'with' ? 'With it' : 'Without it', ' ', h('a', { href: `#run/${id}/${half}/1` }, 'step through it'))
      if (!run) return h('section', {}, top, verdict, h('p', { className: 'hint' }, 'Loading the recording …'))
      const { rows, lanes } = drawn(run[half].steps, -1, n => { location.hash = `#run/${id}/${half}/${n + 1}` })
      const begins = run[half].steps.findIndex(e => e.kind === 'lab') // what is before was made ready for it: money to pay out, an order to give back
      const before = begins > 5 ? rows.splice(0, begins) : []
      return h('section', { className: half }, top, verdict, lanes, before.length ? h('details', {}, h('summary', {}, `${before.length} steps before it, in which nothing goes wrong`), h('ol', {}, before)) : '', h('ol', {}, rows))
    })), way))
}

// --- all of them ---

function listAll() {
  $('experiments').replaceChildren(...experiments.map(x => h('li', {}, h('a', { href: '#run/' + x.id, title: x.says }, x.id))))
}

function showAll() {
  $('main').replaceChildren(h('div', { className: 'start' }, h('h2', {}, 'Each pattern, taken away and put back'),
    h('p', {}, 'Three services take an order, charge the card, keep the books and notify the merchant. Each of these runs was recorded on the real system: its databases, its broker, its processes, killed where it says so. ',
      'Say first what will happen; then see the edit that takes the pattern away, and both runs, step by step, with what stood where at each.'),
    h('table', {}, h('tbody', {}, experiments.map(x => h('tr', {}, h('th', { scope: 'row' }, h('a', { href: '#run/' + x.id }, x.id)), h('td', {}, x.says))))),
    h('p', {}, 'Keys: ', ...['↓', '↑', 'Home', 'End', 'Space'].flatMap(k => [h('kbd', {}, k), ' ']), 'one step on, one back, to the first, to the last, play. To break it yourself: ', h('code', {}, 'make run'), '.')))
}
