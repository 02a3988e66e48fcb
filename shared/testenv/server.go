package testenv

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	amqp "github.com/rabbitmq/amqp091-go"
)

// password is that of both servers, for a user of RabbitMQ's who may come from outside a
// container: guest may not.
const (
	rabbitUser = "failwell"
	password   = "failwell"
)

const (
	// bootTimeout bounds the start of one server on a slow, busy machine.
	bootTimeout = 90 * time.Second

	// perTry bounds one look at whether a server answers: one that takes connections and
	// says nothing must not use up the whole time that it has for its start.
	perTry = 5 * time.Second
)

// errGiven: we do not restart other people's servers.
var errGiven = errors.New("testenv: this server was given by address, it is not ours to stop")

// server is one of the two, wherever it runs.
type server struct {
	machine
	name   string
	ready  func(ctx context.Context) error
	mayEnd bool // while it starts: it is then run again
}

// machine is what a server runs in: a process or a container.
type machine interface {
	run() error // again, after it has ended
	ended() bool
	signal(ctx context.Context, sig syscall.Signal) error // returns when it has ended
	pause(pause bool) error                               // or go on
	about() string                                        // for the error of a server that did not come up
}

// start returns when the server answers. After a kill PostgreSQL's last backends may
// live a moment longer and hold the shared memory; the new server then gives up, and is
// run again.
func (s *server) start(ctx context.Context) error {
	if s == nil {
		return errGiven
	}
	ctx, cancel := context.WithTimeout(ctx, bootTimeout)
	defer cancel()
	for first := true; ; first = false {
		if s.ended() {
			if !first && !s.mayEnd {
				return fmt.Errorf("%s ended while starting\n%s", s.name, s.about())
			}
			if err := s.run(); err != nil {
				return err
			}
		}
		look, done := context.WithTimeout(ctx, perTry)
		err := s.ready(look)
		done()
		if err == nil {
			return nil
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("%s does not come up: %w\n%s", s.name, err, s.about())
		}
	}
}

func (s *server) end(ctx context.Context, sig syscall.Signal) error {
	if s == nil {
		return errGiven
	}
	return s.signal(ctx, sig)
}

func (s *server) hold(pause bool) error {
	if s == nil {
		return errGiven
	}
	return s.pause(pause)
}

func (e *Env) postgresAnswers(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, e.PostgresURL)
	if err != nil {
		return err
	}
	return conn.Close(ctx)
}

func (e *Env) rabbitAnswers(ctx context.Context) error {
	conn, err := amqp.DialConfig(e.AMQPURL, amqp.Config{Dial: amqp.DefaultDial(perTry)})
	if err != nil {
		return err
	}
	_ = conn.Close()
	return e.manage(ctx, http.MethodGet, "/api/vhosts", "")
}

// Client is for tests that run beside others. The default client's idle connections are
// closed by each httptest.Server that ends, also under a request of another test that has just
// taken one; a POST is not repeated then.
var Client = &http.Client{Transport: http.DefaultTransport.(*http.Transport).Clone()}

// manage makes one call to RabbitMQ's management API.
func (e *Env) manage(ctx context.Context, method, path, body string) error {
	request, err := http.NewRequestWithContext(ctx, method, e.RabbitAPI+path, strings.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := Client.Do(request)
	if err != nil {
		return err
	}
	_ = response.Body.Close()
	if response.StatusCode >= 300 {
		return fmt.Errorf("%s %s: status %d", method, path, response.StatusCode)
	}
	return nil
}
