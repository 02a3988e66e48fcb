package stack

import (
	"io"
	"net"
	"net/url"
	"testing"
	"time"
)

// What a service asks for must be late, not only what it is answered: otherwise
// every time-out would strike after the work was done, and none before it.
func TestNetwork_DelaysBothDirections(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close() //nolint:errcheck // a test
	arrived := make(chan time.Time, 1)
	go func() {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		defer conn.Close() //nolint:errcheck // a test
		_, _ = io.ReadFull(conn, make([]byte, 4))
		arrived <- time.Now()
		_, _ = conn.Write([]byte("pong"))
	}()

	n := newNetwork()
	defer n.close()
	address, err := n.through("echo", "http://"+listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	const late = 100 // give or take 50
	if err := n.Delay("echo", late); err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("tcp", u.Host)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close() //nolint:errcheck // a test
	sent := time.Now()
	if _, err := conn.Write([]byte("ping")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(conn, make([]byte, 4)); err != nil {
		t.Fatal(err)
	}
	there := <-arrived
	if least := late / 2 * time.Millisecond; there.Sub(sent) < least || time.Since(there) < least {
		t.Errorf("%s there and %s back, want at least %s each way", there.Sub(sent), time.Since(there), least)
	}
	if err := n.Heal(t.Context(), "echo"); err != nil {
		t.Error(err)
	}
}
