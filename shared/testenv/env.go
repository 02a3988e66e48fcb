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
	"os"
)

// Options says what to start.
type Options struct {
	// IgnoreGiven starts private instances even when addresses are given: for
	// whoever is going to kill them.
	IgnoreGiven bool

	// WithoutPostgres and WithoutRabbit leave out what is not needed.
	WithoutPostgres, WithoutRabbit bool

	// Log hears what is being done. nil: nobody.
	Log io.Writer
}

// Env is a running PostgreSQL and RabbitMQ.
type Env struct {
	PostgresURL string // superuser, database postgres
	AMQPURL     string // user guest, vhost /
	RabbitAPI   string // management API, http://user:password@host:port
	Source      string // "given", "docker" or "local binaries"

	postgres, rabbit server
	cleanup          []func()
}

// server is one of the two, wherever it runs.
type server interface {
	start(ctx context.Context) error // returns when it answers
	stop(ctx context.Context) error  // in good order
	kill(ctx context.Context) error  // without any order
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
	sources := []func(context.Context, Options) (*Env, error){startDocker, startLocal}
	var reasons []error
	for _, source := range sources {
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

// Close stops and removes what was started here; what was given stays.
func (e *Env) Close() {
	for i := len(e.cleanup) - 1; i >= 0; i-- {
		e.cleanup[i]()
	}
	e.cleanup = nil
}

// errGiven: we do not restart other people's servers.
var errGiven = errors.New("testenv: this server was given by address, it is not ours to stop")

func do(s server, what func(server) error) error {
	if s == nil {
		return errGiven
	}
	return what(s)
}

// StopPostgres stops PostgreSQL in good order (fast mode: open transactions roll back).
func (e *Env) StopPostgres(ctx context.Context) error {
	return do(e.postgres, func(s server) error { return s.stop(ctx) })
}

// KillPostgres kills PostgreSQL with SIGKILL.
func (e *Env) KillPostgres(ctx context.Context) error {
	return do(e.postgres, func(s server) error { return s.kill(ctx) })
}

// StartPostgres starts it again at the same address and returns when it answers.
func (e *Env) StartPostgres(ctx context.Context) error {
	return do(e.postgres, func(s server) error { return s.start(ctx) })
}

// StopRabbit stops RabbitMQ in good order, which takes several seconds.
func (e *Env) StopRabbit(ctx context.Context) error {
	return do(e.rabbit, func(s server) error { return s.stop(ctx) })
}

// KillRabbit kills RabbitMQ with SIGKILL. Not within a second of the last
// declaration of a queue: RabbitMQ 3.10 can lose such a queue for good.
func (e *Env) KillRabbit(ctx context.Context) error {
	return do(e.rabbit, func(s server) error { return s.kill(ctx) })
}

// StartRabbit starts it again at the same address and returns when it answers.
func (e *Env) StartRabbit(ctx context.Context) error {
	return do(e.rabbit, func(s server) error { return s.start(ctx) })
}
