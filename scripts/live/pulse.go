package live

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"time"

	"example.com/failwell/scripts/stack"
	"example.com/failwell/shared/platform/wait"
)

const (
	// redialEvery is how often we look whether a dead service is back.
	redialEvery = 20 * time.Millisecond

	// sayEvery keeps the connection: a server hangs up on one that is idle for two minutes.
	sayEvery = time.Minute
)

// pulse holds a connection to a service whose parent we are not, as in containers. When
// the process ends, however it does, its kernel hangs up, and that is seen at once.
func pulse(ctx context.Context, name, address string, tell func(...Event)) error {
	u, err := url.Parse(address)
	if err != nil {
		return err
	}
	var dialer net.Dialer
	for was := false; ctx.Err() == nil; {
		conn, err := dialer.DialContext(ctx, "tcp", u.Host)
		if err == nil {
			stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
			if was {
				tell(Event{At: time.Now(), Kind: Started, Lane: name, Text: name + " takes connections again"})
			}
			hold(conn)
			stop()
			_ = conn.Close()
			if ctx.Err() == nil {
				tell(Event{At: time.Now(), Kind: Died, Lane: name, Text: name + " has hung up: its process has ended"})
			}
			was = true
		}
		wait.For(ctx, redialEvery)
	}
	return ctx.Err()
}

// hold returns when the other side has hung up.
func hold(conn net.Conn) {
	answers := bufio.NewReader(conn)
	for {
		if _, err := fmt.Fprintf(conn, "GET /healthz HTTP/1.1\r\nHost: %s\r\n\r\n", conn.RemoteAddr()); err != nil {
			return
		}
		response, err := http.ReadResponse(answers, nil)
		if err != nil {
			return
		}
		_ = response.Body.Close()
		_ = conn.SetReadDeadline(time.Now().Add(sayEvery)) // it is a TCP connection
		if _, err = answers.Peek(1); !errors.Is(err, os.ErrDeadlineExceeded) {
			return
		}
		_ = conn.SetReadDeadline(time.Time{})
	}
}

// pulses watches all services that way, where there is no parent to tell.
func (p *Page) pulses(ctx context.Context) {
	if p.Signal != nil {
		return
	}
	for _, name := range stack.Services {
		p.source(ctx, "pulse of "+name, func(ctx context.Context, ready func()) error {
			ready()
			return pulse(ctx, name, p.url(name), p.record.add)
		})
	}
}
