// Package testenv finds or starts a real PostgreSQL and a real RabbitMQ, for
// tests, demos and experiments alike.
//
// Where they come from, in this order:
//
//  1. addresses in the environment: FAILWELL_POSTGRES_URL, FAILWELL_AMQP_URL and
//     FAILWELL_RABBIT_API (the management API, with user and password);
//  2. a Docker engine that answers and has the images or can pull them;
//  3. the servers' binaries on this machine, as private, throw-away instances on
//     free loopback ports in a temporary directory.
//
// Instances that were started here are gone after Close, after a panic, and
// after a SIGKILL of this process; a directory that was left behind by a killed
// process is removed by the next one.
package testenv

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
)

// Options says what to start.
type Options struct {
	// IgnoreGiven starts private instances even when addresses are given: for
	// a caller that is going to kill them.
	IgnoreGiven bool

	// WithoutPostgres and WithoutRabbit leave out what is not needed.
	WithoutPostgres, WithoutRabbit bool

	// LogicalDecoding starts a PostgreSQL whose log can be read as rows: for the live page.
	LogicalDecoding bool

	// Log hears what is being done. nil: it is not said.
	Log io.Writer
}

// Env is a running PostgreSQL and RabbitMQ.
type Env struct {
	PostgresURL string // superuser, database postgres
	AMQPURL     string // an administrator, vhost /
	RabbitAPI   string // management API, http://user:password@host:port
	Source      string // "given", "docker" or "local binaries"

	postgres, rabbit *server // nil: given, or left out
	dir              string
	ports            struct{ postgres, amqp, api, distribution, epmd int }
	mu               sync.Mutex
	cleanup          []func()
}

// errNotHere: this source cannot serve; try the next.
var errNotHere = errors.New("not here")

// Start finds or starts the servers. The error, when there is no source at all,
// is one line that says what to do.
func Start(ctx context.Context, opts Options) (*Env, error) {
	if opts.Log == nil {
		opts.Log = io.Discard
	}
	if env, ok := given(opts); ok {
		return env, nil
	}
	var reasons []error
	for _, source := range []func(context.Context, Options) (*Env, error){startDocker, startLocal} {
		env, err := source(ctx, opts)
		if err == nil {
			return env, nil
		}
		if !errors.Is(err, errNotHere) {
			return nil, err
		}
		reasons = append(reasons, err)
	}
	return nil, fmt.Errorf("no PostgreSQL and RabbitMQ: run `make deps`, or start Docker, or set FAILWELL_POSTGRES_URL and FAILWELL_AMQP_URL (%w)", errors.Join(reasons...))
}

func given(opts Options) (*Env, bool) {
	env := &Env{
		PostgresURL: os.Getenv("FAILWELL_POSTGRES_URL"),
		AMQPURL:     os.Getenv("FAILWELL_AMQP_URL"),
		RabbitAPI:   os.Getenv("FAILWELL_RABBIT_API"),
		Source:      "given",
	}
	complete := (env.PostgresURL != "" || opts.WithoutPostgres) && (env.AMQPURL != "" || opts.WithoutRabbit)
	return env, complete && !opts.IgnoreGiven
}

// newEnv makes a directory and holds ports for servers that are to be started.
func newEnv(source string) (*Env, error) {
	dir, remove, err := tempDir()
	if err != nil {
		return nil, err
	}
	e := &Env{Source: source, dir: dir, cleanup: []func(){remove}}
	for _, port := range []*int{&e.ports.postgres, &e.ports.amqp, &e.ports.api, &e.ports.distribution, &e.ports.epmd} {
		held, release, err := HoldPort()
		if err != nil {
			e.Close()
			return nil, err
		}
		*port = held
		e.atClose(release)
	}
	return e, nil
}

// boot makes and starts the servers that opts asks for, side by side: the broker takes
// several seconds.
func (e *Env) boot(ctx context.Context, opts Options, postgres, rabbit func() (machine, error)) (*Env, error) {
	var both errgroup.Group
	start := func(s *server, create func() (machine, error)) {
		both.Go(func() (err error) {
			begun := time.Now()
			if s.machine, err = create(); err == nil {
				err = s.start(ctx)
			}
			if err == nil {
				fmt.Fprintf(opts.Log, "%s ready after %.1f s\n", s.name, time.Since(begun).Seconds())
			}
			return err
		})
	}
	if !opts.WithoutPostgres {
		e.PostgresURL = fmt.Sprintf("postgres://postgres:%s@127.0.0.1:%d/postgres", password, e.ports.postgres)
		e.postgres = &server{name: "PostgreSQL", ready: e.postgresAnswers, mayEnd: true}
		start(e.postgres, postgres)
	}
	if !opts.WithoutRabbit {
		e.AMQPURL = fmt.Sprintf("amqp://%s:%s@127.0.0.1:%d/", rabbitUser, password, e.ports.amqp)
		e.RabbitAPI = fmt.Sprintf("http://%s:%s@127.0.0.1:%d", rabbitUser, password, e.ports.api)
		e.rabbit = &server{name: "RabbitMQ", ready: e.rabbitAnswers}
		start(e.rabbit, rabbit)
	}
	if err := both.Wait(); err != nil {
		e.Close()
		return nil, err
	}
	return e, nil
}

// atClose adds what Close has to do, first.
func (e *Env) atClose(do func()) {
	e.mu.Lock() // the servers are made side by side
	defer e.mu.Unlock()
	e.cleanup = append(e.cleanup, do)
}

// Close stops and removes what was started here; what was given stays.
func (e *Env) Close() {
	for _, do := range slices.Backward(e.cleanup) {
		do()
	}
	e.cleanup = nil
}

// StopPostgres stops PostgreSQL in good order. SIGINT is its fast mode: open transactions
// roll back; SIGTERM would wait for them.
func (e *Env) StopPostgres(ctx context.Context) error { return e.postgres.end(ctx, syscall.SIGINT) }

// KillPostgres kills PostgreSQL with SIGKILL.
func (e *Env) KillPostgres(ctx context.Context) error { return e.postgres.end(ctx, syscall.SIGKILL) }

// StartPostgres starts it again at the same address and returns when it answers.
func (e *Env) StartPostgres(ctx context.Context) error { return e.postgres.start(ctx) }

// PausePostgres stops PostgreSQL where it stands, or lets it go on.
func (e *Env) PausePostgres(pause bool) error { return e.postgres.hold(pause) }

// StopRabbit stops RabbitMQ in good order, which takes several seconds.
func (e *Env) StopRabbit(ctx context.Context) error { return e.rabbit.end(ctx, syscall.SIGTERM) }

// KillRabbit kills RabbitMQ with SIGKILL. Not within a second of the last
// declaration of a queue: RabbitMQ 3.10 can lose such a queue for good.
func (e *Env) KillRabbit(ctx context.Context) error { return e.rabbit.end(ctx, syscall.SIGKILL) }

// StartRabbit starts it again at the same address and returns when it answers.
func (e *Env) StartRabbit(ctx context.Context) error { return e.rabbit.start(ctx) }

// PauseRabbit stops RabbitMQ where it stands, or lets it go on.
func (e *Env) PauseRabbit(pause bool) error { return e.rabbit.hold(pause) }

// VirtualHost makes a virtual host of the broker, and returns its address.
func (e *Env) VirtualHost(ctx context.Context, name string) (string, error) {
	broker, err := url.Parse(e.AMQPURL)
	if err == nil {
		err = e.insist(ctx, http.MethodPut, "/api/vhosts/"+name, "")
	}
	if err == nil {
		err = e.insist(ctx, http.MethodPut, "/api/permissions/"+name+"/"+broker.User.Username(), `{"configure":".*","write":".*","read":".*"}`)
	}
	if err != nil {
		return "", fmt.Errorf("virtual host %s: %w", name, err)
	}
	broker.Path = "/" + name
	return broker.String(), nil
}

// insist calls the management API, which comes up a little after the broker itself.
func (e *Env) insist(ctx context.Context, method, path, body string) error {
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		if err := e.manage(ctx, method, path, body); err == nil || time.Now().After(deadline) {
			return err
		}
	}
}
