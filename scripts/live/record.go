package live

import (
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
)

// Event is one thing that was observed.
type Event struct {
	Seq  int       `json:"seq"`
	At   time.Time `json:"at"`
	Kind string    `json:"kind"` // see the constants
	Lane string    `json:"lane"` // where it happened, or where it arrived
	From string    `json:"from,omitempty"`
	Text string    `json:"text"`
	More string    `json:"more,omitempty"` // a body, as it was

	// Of a transaction: its rows, the name under which it is prepared, and how many rows
	// of other orders it has committed beside.
	Rows   []Row  `json:"rows,omitempty"`
	GID    string `json:"gid,omitempty"`
	Others int    `json:"others,omitempty"`

	refs  []string   // the ids that it mentions
	links [][]string // ids that belong together from now on
}

// The kinds of events.
const (
	Commit           = "commit"
	Prepare          = "prepare"
	CommitPrepared   = "commit-prepared"
	RollbackPrepared = "rollback-prepared"
	Publish          = "publish"
	Deliver          = "deliver"
	Redeliver        = "redeliver"
	Retry            = "retry"
	Parked           = "parked"
	Call             = "call"
	Answer           = "answer"
	NoAnswer         = "no-answer"
	Died             = "died"
	Started          = "started"
	Paused           = "paused"
	Resumed          = "resumed"
	Lab              = "lab" // done with the page: armed, disarmed
	Gap              = "gap" // something was not observed for a while
)

// Row is a changed row, as the database's log has it.
type Row struct {
	Table string             `json:"table"`
	Op    string             `json:"op"`
	Key   string             `json:"key"`
	Cols  map[string]*string `json:"cols"`

	refs []string
}

// keep is how many events are kept.
const keep = 20_000

// record keeps what was observed, in memory, and knows which ids belong together: an
// order, its payment, the charge, the messages that speak of them. Such ids are one
// family, and an event belongs to the timeline of each family that it mentions.
type record struct {
	mu       sync.Mutex
	next     int
	events   []Event
	parent   map[string]string   // of an id: another one of its family
	rows     map[string][]string // ids of rows whose key does not tell them, while they exist
	subjects []subject
	ended    int           // orders that have ended
	changed  chan struct{} // closed at the next event
}

func newRecord() *record {
	return &record{parent: map[string]string{}, rows: map[string][]string{}, changed: make(chan struct{})}
}

var uuids = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`)

const noID = "00000000-0000-0000-0000-000000000000"

// idsIn finds the ids in a text.
func idsIn(texts ...string) []string {
	var found []string
	for _, text := range texts {
		found = append(found, uuids.FindAllString(text, -1)...)
	}
	found = slices.DeleteFunc(found, func(id string) bool { return id == noID })
	slices.Sort(found)
	return slices.Compact(found)
}

// add takes events in.
func (r *record) add(events ...Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range events {
		r.next++
		e.Seq = r.next
		for i := range e.Rows {
			e.links = append(e.links, r.know(&e.Rows[i]))
			e.refs = append(e.refs, e.Rows[i].refs...)
			r.note(e.Rows[i], e.At)
		}
		r.link(e.links)
		r.events = append(r.events, e)
	}
	if len(r.events) > keep*5/4 {
		r.events = slices.Clone(r.events[len(r.events)-keep:])
		clear(r.parent) // or it would grow without end
		for _, e := range r.events {
			r.link(e.links)
		}
	}
	close(r.changed)
	r.changed = make(chan struct{})
}

// know finds out which ids a row mentions, and returns those that belong together.
func (r *record) know(row *Row) (family []string) {
	name := row.Table + " " + row.Key
	if row.Op == "DELETE" {
		row.refs = append(idsIn(row.Key), r.rows[name]...)
		delete(r.rows, name)
		return nil
	}
	var texts []string
	for _, value := range row.Cols {
		if value != nil {
			texts = append(texts, *value)
		}
	}
	row.refs = idsIn(texts...)
	if len(idsIn(row.Key)) == 0 && len(row.refs) > 0 {
		r.rows[name] = row.refs
	}
	switch {
	case row.Table == "outbox":
		return messageFamily(row.col("message_id"), row.col("body"))
	// These speak of many things at once.
	case strings.HasPrefix(row.Table, "reconciliation"), row.Table == "statement_lines":
		return nil
	}
	return row.refs
}

func (r Row) col(name string) string {
	if v := r.Cols[name]; v != nil {
		return *v
	}
	return ""
}

func (r *record) find(id string) string {
	for r.parent[id] != "" {
		id = r.parent[id]
	}
	return id
}

func (r *record) link(families [][]string) {
	for _, ids := range families {
		for i := 1; i < len(ids); i++ {
			if a, b := r.find(ids[0]), r.find(ids[i]); a != b {
				r.parent[b] = a
			}
		}
	}
}

// What happened to the processes is shown in a timeline from shortly before its first
// event until some time after its last; what was armed for it, from longer before. What
// ended or was paused in that time is shown until it goes on, however late: a broker that is
// killed may need longer than that.
const (
	shortly  = time.Second
	armedFor = time.Minute
	after    = 10 * time.Second
)

// timeline returns the events about an id, oldest first, each with the rows that are
// about it; of a refund those from its beginning. changed is closed when there may be more.
func (r *record) timeline(id string) (events []Event, changed <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	ids := idsIn(id)
	if len(ids) == 0 {
		return nil, r.changed
	}
	family := r.find(ids[0])
	ours := func(refs []string) bool {
		return slices.ContainsFunc(refs, func(ref string) bool { return r.find(ref) == family })
	}
	begins := r.keysOf(ids[0])
	begun := !strings.HasPrefix(id, "rfd_")
	var first, last time.Time
	for _, e := range r.events {
		begun = begun || slices.ContainsFunc(e.refs, func(ref string) bool { return slices.Contains(begins, ref) })
		switch {
		case !begun || !ours(e.refs):
			continue
		case first.IsZero():
			first = e.At
		}
		last = e.At
		var rows []Row
		for _, row := range e.Rows {
			// A row without ids, such as a product's stock or an account's balance,
			// belongs to whatever its transaction is about.
			if len(row.refs) == 0 || ours(row.refs) {
				rows = append(rows, row)
			} else {
				e.Others++
			}
		}
		e.Rows = rows
		events = append(events, e)
	}
	if first.IsZero() {
		return nil, r.changed
	}
	down := map[string]bool{}
	for _, e := range r.events {
		before := shortly
		if e.Kind == Lab || e.Kind == Paused {
			before = armedFor
		}
		goesOn := (e.Kind == Started || e.Kind == Resumed) && down[e.Lane]
		if e.processes() && e.At.After(first.Add(-before)) && (goesOn || e.At.Before(last.Add(after))) {
			events = append(events, e)
			down[e.Lane] = e.Kind == Died || e.Kind == Paused
		}
	}
	sortByTime(events)
	return events, r.changed
}

// keysOf is an id with the keys under which it was asked for: with them its story begins.
func (r *record) keysOf(id string) []string {
	ids := []string{id}
	for _, e := range r.events {
		for _, row := range e.Rows {
			if row.Table == "idempotency_keys" && slices.Contains(row.refs, id) {
				ids = append(ids, idsIn(row.col("key"))...)
			}
		}
	}
	return ids
}

// processes tells whether an event is about no order, but about what all run on.
func (e Event) processes() bool {
	return slices.Contains([]string{Died, Started, Paused, Resumed, Lab, Gap}, e.Kind)
}
