package live

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"example.com/failwell/scripts/stack"
	"example.com/failwell/shared/platform/fault"
	"example.com/failwell/shared/platform/wait"
)

const (
	// stopAfter is how long we go on watching when the last browser is gone: a page that
	// is loaded again should not miss anything.
	stopAfter = 10 * time.Second

	// lookEvery is how often we ask what is armed, and what lives.
	lookEvery = 500 * time.Millisecond

	// together is how long events are collected before a browser is told of them.
	together = 30 * time.Millisecond

	// watchAgain is the pause after a source broke off.
	watchAgain = 500 * time.Millisecond
)

// databases are those whose logs are read.
var databases = []string{"orders", "payments", "ledger", "sandbox"}

// watch begins to watch, unless somebody does; leave ends it some time after the last.
func (p *Page) watch() (leave func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.watchers++
	if p.stop == nil {
		ctx, stop := context.WithCancel(p.ctx)
		p.stop, p.state = stop, nil // what was so when the last browser left is not so now
		p.record.add(Event{At: time.Now(), Kind: Gap, Lane: "client", Text: "recording begins; what was before is not known here"})
		for _, name := range databases {
			p.source(ctx, "log of "+name, func(ctx context.Context, ready func()) error {
				return decode(ctx, name, p.database(name), ready, p.record.add)
			})
		}
		p.source(ctx, "firehose", func(ctx context.Context, ready func()) error {
			return firehose(ctx, p.Env["AMQP_URL"], p.RabbitAPI, ready, p.record.add)
		})
		p.source(ctx, "outside world", func(ctx context.Context, ready func()) error {
			return outside(ctx, p.url("sandbox"), ready, p.record.add)
		})
		p.pulses(ctx)
		go p.keepLooking(ctx)
	}
	return func() {
		time.AfterFunc(stopAfter, func() {
			p.mu.Lock()
			defer p.mu.Unlock()
			if p.watchers--; p.watchers == 0 {
				p.stop()
				p.stop = nil
			}
		})
	}
}

// source watches one source until ctx ends, and says on the timeline when something was
// not watched. It is called with the lock held.
func (p *Page) source(ctx context.Context, name string, run func(ctx context.Context, ready func()) error) {
	p.sources[name] = "starting"
	go func() {
		for ctx.Err() == nil {
			was := false
			err := run(ctx, func() { was = true; p.setSource(name, "") })
			if ctx.Err() != nil {
				return
			}
			p.setSource(name, err.Error())
			if was {
				p.record.add(Event{At: time.Now(), Kind: Gap, Lane: "client", Text: "the " + name + " broke off; what follows may have holes", More: err.Error()})
			}
			wait.For(ctx, watchAgain)
		}
	}()
}

func (p *Page) setSource(name, why string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sources[name] = why
}

// ready waits until everything is watched: an order that is placed earlier would have no
// beginning.
func (p *Page) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	missing := ""
	err := wait.Until(ctx, 20*time.Millisecond, "all sources", func() (bool, error) {
		p.mu.Lock()
		defer p.mu.Unlock()
		missing = ""
		for name, why := range p.sources {
			if why != "" {
				missing = name + ": " + why
			}
		}
		return p.stop != nil && missing == "", nil
	})
	if err != nil {
		return fmt.Errorf("not everything is watched yet, %s: %w", missing, err)
	}
	return nil
}

// Life takes the word of the parent of the processes.
func (p *Page) Life(l stack.Life) {
	e := Event{At: l.At, Lane: l.Name, Kind: Started, Text: fmt.Sprintf("%s runs, pid %d", l.Name, l.Pid)}
	if l.Name == stack.Sandbox {
		e.Lane = "processor"
	}
	if l.End != "" {
		e.Kind, e.Text = Died, fmt.Sprintf("%s has ended, pid %d: %s", l.Name, l.Pid, l.End)
		p.mu.Lock()
		delete(p.paused, l.Name)
		p.mu.Unlock()
	}
	p.record.add(e)
}

// The state of the system, as the page shows it beside the timeline.
type state struct {
	Sources   map[string]string `json:"sources"`
	Subjects  []subject         `json:"subjects"`
	Processes []process         `json:"processes"`
	Armed     []armed           `json:"armed"`
	Links     []process         `json:"links"` // of the network
	Stream    stream            `json:"stream"`
	World     []rule            `json:"world"`
	Signals   bool              `json:"signals"`
}

type process struct {
	Name  string `json:"name"`
	Pid   int    `json:"pid"`
	State string `json:"state"`
}

type armed struct {
	Service string `json:"service"`
	fault.Order
}

// rule is one of the sandbox's rules.
type rule struct {
	Contract string `json:"contract"`
	Fault    string `json:"fault"`
	Times    int    `json:"times"`
	DelayMS  int    `json:"delay_ms,omitempty"`
	Struck   int    `json:"struck,omitempty"`
}

func (p *Page) keepLooking(ctx context.Context) {
	for ctx.Err() == nil {
		p.look(ctx)
		wait.For(ctx, lookEvery)
	}
}

// look finds out what is armed and what lives.
func (p *Page) look(ctx context.Context) {
	s := state{Sources: map[string]string{}, Signals: p.Signal != nil}
	var ended int
	s.Subjects, ended = p.record.list()
	for _, name := range stack.Services {
		lives := process{Name: name, State: "runs"}
		if p.Pid != nil {
			lives.Pid = p.Pid(name)
		}
		p.mu.Lock()
		paused := p.paused[name]
		p.mu.Unlock()
		var points []fault.Status
		switch {
		case paused:
			lives.State = "paused"
		case p.read(ctx, p.url(name)+"/lab/faults", &points) != nil:
			lives.State = "does not answer"
		}
		s.Processes = append(s.Processes, lives)
		for _, point := range points {
			if point.Armed != nil {
				s.Armed = append(s.Armed, armed{name, *point.Armed})
			}
		}
	}
	if p.Servers != nil {
		for _, name := range []string{postgreSQL, rabbitMQ} {
			s.Processes = append(s.Processes, process{Name: name, State: p.serverState(ctx, name)})
		}
	}
	if p.Network != nil {
		p.mu.Lock()
		for _, link := range stack.Links {
			s.Links = append(s.Links, process{Name: link, State: p.links[link]})
		}
		p.mu.Unlock()
	}
	var rules struct{ Rules []rule }
	if p.read(ctx, p.url("sandbox")+"/faults", &rules) == nil {
		for _, r := range rules.Rules {
			if r.Times == 0 || r.Struck < r.Times {
				s.World = append(s.World, r)
			}
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for name, why := range p.sources {
		s.Sources[name] = why
	}
	s.Stream, s.Stream.Ended = p.stream, ended
	p.state, _ = json.Marshal(s) // our own type
}

func (p *Page) read(ctx context.Context, address string, into any) error {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	return ask(ctx, http.MethodGet, address, nil, into)
}

// events streams a timeline and the state to a browser (server-sent events). An event is
// sent again when more of its rows have turned out to belong to it.
func (p *Page) events(w http.ResponseWriter, r *http.Request) {
	defer p.watch()()
	w.Header().Set("Content-Type", "text/event-stream")
	wire := http.NewResponseController(w)
	rows := map[int]int{} // by what was sent
	var told []byte
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		found, changed := p.record.timeline(r.URL.Query().Get("id"))
		batch := []Event{}
		for _, e := range found {
			if n, sent := rows[e.Seq]; !sent || n != len(e.Rows) {
				rows[e.Seq] = len(e.Rows)
				batch = append(batch, e)
			}
		}
		if len(batch) > 0 {
			text, _ := json.Marshal(batch)                      // our own type
			fmt.Fprintf(w, "event: events\ndata: %s\n\n", text) //nolint:gosec // JSON for our own script, not HTML
		}
		p.mu.Lock()
		now := p.state
		p.mu.Unlock()
		if now != nil && !bytes.Equal(now, told) {
			told = now
			fmt.Fprintf(w, "event: state\ndata: %s\n\n", now)
		}
		if wire.Flush() != nil {
			return
		}
		select {
		case <-changed:
		case <-tick.C:
		case <-r.Context().Done():
			return
		}
		time.Sleep(together)
	}
}
