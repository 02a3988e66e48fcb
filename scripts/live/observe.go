package live

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"example.com/failwell/scripts/stack"
)

const (
	// stillFor is how long nothing may have happened for a run to be over, and stillWithin
	// the end of the wait: some runs without a pattern never come to rest.
	stillFor    = 500 * time.Millisecond
	stillWithin = 4 * time.Second

	// rowsKept is how many rows of one transaction a recording keeps, eventsKept how many
	// events, valueKept how long a value: some delete thousands, or have twenty buyers.
	rowsKept   = 30
	eventsKept = 180
	valueKept  = 600
)

// Observe watches a system until ctx ends, as it would for a browser: for a recording.
func (p *Page) Observe(ctx context.Context, system System) error {
	p.use(ctx, system)
	p.watch()
	return p.ready(ctx)
}

// Hear has what a client asks of the services, and hears, on its lane of the timelines.
func (p *Page) Hear(next http.RoundTripper) http.RoundTripper {
	called := map[string]string{}
	for _, name := range stack.Processes {
		if u, err := url.Parse(p.url(name)); err == nil {
			called[u.Host] = name
		}
	}
	return client{RoundTripper: next, called: called, tell: p.record.add, last: &p.calls}
}

// Mark is how much was recorded until now.
func (p *Page) Mark() int {
	p.record.mu.Lock()
	defer p.record.mu.Unlock()
	return p.record.next
}

// Since is what was recorded after a mark, when no more comes, in the order of time.
func (p *Page) Since(mark int) []Event {
	for end := time.Now().Add(stillWithin); time.Now().Before(end); {
		p.record.mu.Lock()
		changed := p.record.changed
		p.record.mu.Unlock()
		select {
		case <-changed:
			continue
		case <-time.After(stillFor):
		}
		break
	}
	p.record.mu.Lock()
	defer p.record.mu.Unlock()
	var events []Event
	for _, e := range p.record.events {
		if e.Seq > mark && e.Kind != Gap && (e.Kind != Commit || len(e.Rows) > 0) {
			events = append(events, e)
		}
	}
	sortByTime(events)
	if more := len(events) - eventsKept; more > 0 {
		events = append(events[:eventsKept], Event{
			Seq: events[eventsKept].Seq, At: events[eventsKept].At, Kind: Gap, Lane: "client", Text: fmt.Sprintf("and %d more that the recording does not keep", more),
		})
	}
	known := map[string]map[string]*string{}
	for i := range events {
		events[i] = events[i].short(known)
	}
	return events
}

func sortByTime(events []Event) {
	slices.SortFunc(events, func(a, b Event) int { return cmp.Or(a.At.Compare(b.At), a.Seq-b.Seq) })
}

// short is an event as a recording keeps it: of an updated row only what has changed.
func (e Event) short(known map[string]map[string]*string) Event {
	if e.Kind == Deliver || e.Kind == Redeliver { // it stands at its publication
		var m struct {
			ID   string `json:"id"`
			Type string `json:"type"`
		}
		_ = json.Unmarshal([]byte(e.More), &m) // it is a message: see copied
		if short, err := json.Marshal(m); err == nil && m.ID != "" {
			e.More = string(short)
		}
	}
	e.More = cut(e.More, valueKept)
	if more := len(e.Rows) - rowsKept; more > 0 {
		e.Rows, e.Others = e.Rows[:rowsKept], e.Others+more
	}
	e.Rows = slices.Clone(e.Rows)
	for i, row := range e.Rows {
		key, was := e.Lane+" "+row.Table+" "+row.Key, map[string]*string(nil)
		if row.Op == "UPDATE" {
			was = known[key]
		}
		all, changed := maps.Clone(was), map[string]*string{}
		if all == nil {
			all = map[string]*string{}
		}
		for name, value := range row.Cols {
			if value != nil {
				most := valueKept
				if row.Table == "outbox" && name == "body" { // it is published
					most = 100
				}
				text := cut(*value, most)
				value = &text
			}
			old, is := was[name]
			if !is || (old == nil) != (value == nil) || old != nil && *old != *value {
				changed[name] = value
			}
			all[name] = value
		}
		known[key], e.Rows[i].Cols = all, changed
	}
	return e
}

func cut(text string, most int) string {
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "") + " …"
}
