// Package live is the lab's page in the browser: it places orders, breaks things, shows
// what happens between the processes while it happens, and says whether all is right.
//
// What it shows is observed and not told by the services, so that it outlives a SIGKILL
// of the process it speaks of: the databases' own logs, the broker's copies of what it
// takes and delivers, the outside world's record of its calls, and the word of the parent
// of the processes. All of it is watched only while a browser has the page open.
//
// It can kill processes and spend a merchant's money, so it belongs on loopback and into a
// lab. See docs/live.md.
package live

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"example.com/failwell/docs/site"
	"example.com/failwell/scripts/lab/audit"
	"example.com/failwell/scripts/shop"
	"example.com/failwell/scripts/stack"
	"example.com/failwell/shared/testenv"
)

// System is what the page is about.
type System struct {
	Env       map[string]string // the variables of .run/env; POSTGRES_URL is a superuser's
	RabbitAPI string            // the broker's management API, with user and password
	Root      string            // of the repository, for the lines of code; empty: not there

	// Signal sends a signal to a process, and Pid is its number. nil: the processes are
	// not ours, as in containers; they are killed by their own fault points only.
	Signal func(name string, sig syscall.Signal) bool
	Pid    func(name string) int

	// Servers are PostgreSQL and RabbitMQ, Network lies between all of them. nil: not ours,
	// too.
	Servers *testenv.Env
	Network *stack.Network
}

// Page is the page's server.
type Page struct {
	System
	ctx    context.Context //nolint:containedctx // ends what is watched: the lifetime of the server, not of a call
	record *record
	shop   *shop.Shop
	calls  atomic.Int64 // of the page's client

	mu       sync.Mutex
	watchers int
	stop     context.CancelFunc // of what is watched; nil: nothing is
	sources  map[string]string  // by name; empty: it is watched, else why not
	paused   map[string]bool    // processes and servers
	links    map[string]string  // what was done to the network, by link
	state    []byte
	stream   stream
	truth    *audit.Databases
}

// New makes a page of which the system does not run yet.
func New() *Page {
	return &Page{record: newRecord(), sources: map[string]string{}, paused: map[string]bool{}, links: map[string]string{}}
}

// Serve answers on listener until ctx ends.
func (p *Page) Serve(ctx context.Context, listener net.Listener, system System) error {
	p.use(ctx, system)
	server := &http.Server{Handler: p.handler(), ReadHeaderTimeout: 5 * time.Second}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		<-ctx.Done()
		_ = server.Close() // the streams would never end by themselves
	}()
	err := server.Serve(listener)
	if ctx.Err() != nil {
		<-ended
		err = nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.truth != nil {
		p.truth.Close()
	}
	return err
}

// use begins with a system.
func (p *Page) use(ctx context.Context, system System) {
	p.ctx, p.System = ctx, system
	p.shop = shop.New(system.Env)
	p.shop.HTTP.Transport = p.Hear(p.shop.HTTP.Transport)
}

// url is the address of a service, or of the sandbox.
func (p *Page) url(name string) string { return p.Env[strings.ToUpper(name)+"_URL"] }

// database is the address of a database, as a superuser.
func (p *Page) database(name string) string {
	u, err := url.Parse(p.Env["POSTGRES_URL"])
	if err != nil {
		return ""
	}
	u.Path = "/" + name
	return u.String()
}

func (p *Page) handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /", http.FileServerFS(site.Files))
	mux.HandleFunc("GET /{$}", index)
	mux.HandleFunc("GET /readyz", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("GET /api/events", p.events)
	mux.HandleFunc("GET /api/points", p.points)
	mux.HandleFunc("GET /api/verdict", answer(p.verdict))
	mux.HandleFunc("POST /api/order", answer(p.order))
	mux.HandleFunc("POST /api/refund", answer(p.refund))
	mux.HandleFunc("POST /api/payout", answer(p.payout))
	mux.HandleFunc("POST /api/cancel", answer(p.cancel))
	mux.HandleFunc("POST /api/arm", answer(p.arm))
	mux.HandleFunc("POST /api/world", answer(p.misbehave))
	mux.HandleFunc("POST /api/disarm", answer(p.disarm))
	mux.HandleFunc("POST /api/process", answer(p.process))
	mux.HandleFunc("POST /api/network", answer(p.network))
	mux.HandleFunc("POST /api/stream", answer(p.flow))
	mux.HandleFunc("GET /api/operator", answer(p.waiting))
	mux.HandleFunc("POST /api/resolve", answer(p.resolve))
	// Refuses what another site's page sends: it looks at Sec-Fetch-Site and Origin.
	return onlyLocal(http.NewCrossOriginProtection().Handler(mux))
}

// index is the page with the word that a system is behind it. Without that it would only
// play recorded runs.
func index(w http.ResponseWriter, _ *http.Request) {
	page, err := site.Files.ReadFile("index.html")
	if err != nil {
		panic(err) // it is in the binary
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_, _ = w.Write(bytes.Replace(page, []byte("<html "), []byte("<html data-live "), 1)) // the browser may be gone
}

// onlyLocal refuses requests under another name than this machine's: a stranger's name
// that was made to lead to 127.0.0.1 would make the browser take us for the stranger's
// site, and read.
func onlyLocal(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host := r.Host
		if name, _, err := net.SplitHostPort(host); err == nil {
			host = name
		}
		if host != "127.0.0.1" && host != "localhost" && host != "::1" {
			http.Error(w, "this page is for 127.0.0.1 and localhost only", http.StatusForbidden)
			return
		}
		// A browser sends Origin with every POST, and with what a stranger's page reads.
		if origin := r.Header.Get("Origin"); origin != "http://"+r.Host && (origin != "" || r.Method != http.MethodGet) {
			http.Error(w, "not from this page", http.StatusForbidden)
			return
		}
		w.Header().Set("Content-Security-Policy", "default-src 'self'; frame-ancestors 'none'")
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		next.ServeHTTP(w, r)
	})
}

// asked is what the page sends with a button.
type asked struct {
	Card, SKU, OrderID string
	Quantity           int
	Minor              int64

	Service, Point, Action string
	Hit, DelayMS           int

	Contract, Fault string
	Times           int

	Name, Do string

	Rate float64

	ID, Queue, Error string
	Seconds          int
}

// answer turns a function into a handler: JSON in, JSON out, an error as text.
func answer(do func(ctx context.Context, in asked) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var in asked
		if r.Method == http.MethodPost {
			decoder := json.NewDecoder(http.MaxBytesReader(w, r.Body, 4096))
			decoder.DisallowUnknownFields()
			if err := decoder.Decode(&in); err != nil {
				http.Error(w, err.Error(), http.StatusBadRequest)
				return
			}
		}
		out, err := do(r.Context(), in)
		if err != nil {
			status := http.StatusBadGateway
			if errors.Is(err, errAsked) {
				status = http.StatusUnprocessableEntity
			}
			http.Error(w, err.Error(), status)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(out) // the browser may be gone
	}
}

// errAsked: what was asked for cannot be.
var errAsked = errors.New("not possible")
