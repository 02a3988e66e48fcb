package main

import (
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"example.com/failwell/shared/testenv"
)

// pooler starts PgBouncer as the runbook sets it up, and returns the database's URL through it.
func pooler(t *testing.T, dbURL string) string {
	t.Helper()
	binary, err := exec.LookPath("pgbouncer")
	if err != nil && os.Getenv("CI") != "" {
		t.Fatal("PgBouncer is not installed: scripts/deps.sh pgbouncer")
	}
	if err != nil {
		t.Skip("PgBouncer is not installed")
	}
	u, err := url.Parse(dbURL)
	if err != nil {
		t.Fatal(err)
	}
	free, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := free.Addr().(*net.TCPAddr)
	_ = free.Close()
	password, _ := u.User.Password()
	dir, err := os.MkdirTemp("", "pooler")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	config := filepath.Join(dir, "pgbouncer.ini")
	err = os.WriteFile(config, fmt.Appendf(nil, `[databases]
* = host=%s port=%s user=%s password=%s
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = %d
unix_socket_dir =
auth_type = any
pool_mode = transaction
ignore_startup_parameters = tcp_keepalives_idle, tcp_keepalives_interval, tcp_keepalives_count, tcp_user_timeout
`, u.Hostname(), u.Port(), u.User.Username(), password, address.Port), 0o644) //nolint:gosec // PgBouncer may run as another user
	if err == nil {
		err = os.Chmod(dir, 0o755) //nolint:gosec // the same
	}
	if err != nil {
		t.Fatal(err)
	}
	args := []string{config}
	if os.Getuid() == 0 {
		args = []string{"-u", "nobody", config} // it refuses to run as root
	}
	run := exec.Command(binary, args...)
	if err := run.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = run.Process.Kill(); _ = run.Wait() })
	eventually(t, "PgBouncer listens", func() bool {
		conn, err := net.DialTimeout("tcp", address.String(), time.Second)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	})
	u.Host = address.String()
	q := u.Query()
	q.Set("default_query_exec_mode", "exec")
	u.RawQuery = q.Encode()
	return u.String()
}

// Each transaction may run in another session of the server.
func TestLedger_WorksThroughAPooler(t *testing.T) {
	t.Parallel()
	l := newLedgerAt(t, pooler(t, testenv.Postgres(t, migrations)))
	sale := order(1000)
	l.deliver(message(t, "ledger.post-sale", sale))
	same(t, "replies", l.replies(sale.OrderID), []string{"post-sale done"})
	l.deliver(message(t, "ledger.settle", settlement{Kind: "charge", OrderID: sale.OrderID, PaymentID: sale.PaymentID, MerchantID: acme, Amount: gbp(1000)}))
	payout := newEntry{Kind: "payout", Source: "pyo_1", Reference: "pyo_1", MerchantID: acme, Postings: transfer("", available, transit, 500).Postings}
	if a := l.call(http.MethodPost, "/2pc/gid_1/prepare", serviceKey, payout); a.status != http.StatusNoContent {
		t.Errorf("prepare: %d %s", a.status, a.body)
	}
	if a := l.call(http.MethodPost, "/2pc/gid_1/commit", serviceKey, nil); a.status != http.StatusNoContent {
		t.Errorf("commit: %d %s", a.status, a.body)
	}
	same(t, "available", l.balances()[available], 475)
	l.call(http.MethodGet, "/v1/accounts", acmeKey, nil).want(t, http.StatusOK, "")
	l.call(http.MethodGet, "/v1/entries?reference="+sale.OrderID, acmeKey, nil).want(t, http.StatusOK, "")
	if a := l.call(http.MethodGet, "/v1/journal", serviceKey, nil); a.status != http.StatusOK {
		t.Errorf("journal: %d %s", a.status, a.body)
	}
	// Side by side, they get each other's sessions.
	var reading sync.WaitGroup
	for range 8 {
		reading.Go(func() {
			for range 20 {
				if a := l.call(http.MethodGet, "/v1/entries?reference="+sale.OrderID, acmeKey, nil); a.status != http.StatusOK {
					t.Errorf("entries: %d %s", a.status, a.body)
					return
				}
			}
		})
	}
	reading.Wait()
	l.deliver(message(t, "ledger.payout-sent", payoutNews{PayoutID: "pyo_1", MerchantID: acme, Amount: gbp(500)}))
	l.booksBalance()
}
