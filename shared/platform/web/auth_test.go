package web_test

import (
	"bytes"
	"encoding/hex"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/labstack/echo/v4"

	"example.com/failwell/shared/platform/config"
	"example.com/failwell/shared/platform/web"
	"example.com/failwell/shared/testenv"
)

var merchantsTable = fstest.MapFS{"migrations/00001_merchants.sql": {Data: []byte(`-- +goose Up
CREATE TABLE merchants (
    merchant_id    text PRIMARY KEY,
    webhook_secret text NOT NULL
);
CREATE TABLE merchant_keys (
    key_hash    bytea PRIMARY KEY,
    merchant_id text  NOT NULL REFERENCES merchants
);
`)}}

func open(t *testing.T, url string) *pgxpool.Pool {
	t.Helper()
	db, err := pgxpool.New(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	return db
}

func whoami(middleware echo.MiddlewareFunc) func(e *echo.Echo) {
	return func(e *echo.Echo) {
		e.GET("/me", func(c echo.Context) error { return c.String(http.StatusOK, web.MerchantID(c)) }, middleware)
	}
}

func seed(t *testing.T, db *pgxpool.Pool, merchants ...config.Merchant) {
	t.Helper()
	if err := web.SyncAPIKeys(t.Context(), db, merchants); err != nil {
		t.Fatal(err)
	}
}

func TestRequireMerchant_NeedsAKeyAndNamesItsMerchant(t *testing.T) {
	t.Parallel()
	db := open(t, testenv.Postgres(t, merchantsTable))
	seed(t, db, config.Merchant{ID: "mer_acme", Key: "sk_acme"}, config.Merchant{ID: "mer_other", Key: "sk_other"})
	s := serve(t, whoami(web.RequireMerchant(db)))
	for header, want := range map[string]string{
		"Bearer sk_acme": "mer_acme", "bearer sk_acme": "mer_acme", "Bearer sk_other": "mer_other",
		"": "", "Bearer": "", "Bearer ": "", "Bearer sk_wrong": "", "Basic sk_acme": "", "sk_acme": "", "Bearer SK_ACME": "",
		"Bearer sk_acme sk_other": "", "Bearer ' OR true --": "", "Bearer \xff\xfe": "",
	} {
		for range 2 { // the second answer comes from the cache, if from anywhere
			a := s.send(t, http.MethodGet, "/me", "", "Authorization", header)
			if want != "" {
				if a.status != http.StatusOK || a.body != want {
					t.Errorf("%q: %d %s, want %s", header, a.status, a.body, want)
				}
				continue
			}
			wantProblem(t, a, http.StatusUnauthorized, "unauthenticated", "Authorization")
			if a.header.Get("WWW-Authenticate") != "Bearer" {
				t.Errorf("%q: WWW-Authenticate %q", header, a.header.Get("WWW-Authenticate"))
			}
		}
	}
}

func TestRequireMerchant_StolenTableOpensNothing(t *testing.T) {
	t.Parallel()
	db := open(t, testenv.Postgres(t, merchantsTable))
	seed(t, db, config.Merchant{ID: "mer_acme", Key: "sk_acme", WebhookSecret: "whsec_QQ=="})
	var row string
	var hash []byte
	if err := db.QueryRow(t.Context(), `SELECT k::text || m::text, key_hash FROM merchant_keys k JOIN merchants m USING (merchant_id)`).Scan(&row, &hash); err != nil {
		t.Fatal(err)
	}
	if bytes.Contains([]byte(row), []byte("sk_acme")) || bytes.Contains(hash, []byte("sk_acme")) || len(hash) != 32 {
		t.Errorf("the key can be read: %s", row)
	}
	s := serve(t, whoami(web.RequireMerchant(db)))
	a := s.send(t, http.MethodGet, "/me", "", "Authorization", "Bearer "+hex.EncodeToString(hash))
	wantProblem(t, a, http.StatusUnauthorized, "unauthenticated", "Authorization")
}

// The configuration decides at each start: what it lacks is revoked, two keys of one
// merchant both work, and keys may change hands.
func TestSyncAPIKeys_TheKeysAreThoseOfTheConfiguration(t *testing.T) {
	t.Parallel()
	db := open(t, testenv.Postgres(t, merchantsTable))
	for _, c := range []struct {
		what, merchants string // key=merchant
	}{
		{"at first", "k1=acme k2=other"},
		{"a new key beside the old one", "k1=acme k3=acme k2=other"},
		{"the old one goes", "k3=acme k2=other"},
		{"a merchant goes", "k3=acme"},
		{"it comes back", "k3=acme k2=other"},
		{"swapped", "k2=acme k3=other"},
		{"none", ""},
	} {
		var merchants []config.Merchant
		want := map[string]string{}
		for pair := range strings.FieldsSeq(c.merchants) {
			key, id, _ := strings.Cut(pair, "=")
			merchants = append(merchants, config.Merchant{ID: id, Key: key})
			want[key] = id
		}
		seed(t, db, merchants...)
		s := serve(t, whoami(web.RequireMerchant(db))) // a new process: it remembers no key
		for _, key := range []string{"k1", "k2", "k3"} {
			a := s.send(t, http.MethodGet, "/me", "", "Authorization", "Bearer "+key)
			if ok := a.status == http.StatusOK; ok != (want[key] != "") || ok && a.body != want[key] {
				t.Errorf("%s: %s is answered %d %s, want %q", c.what, key, a.status, a.body, want[key])
			}
		}
	}
}

func TestSyncAPIKeys_RefusesOneKeyForTwo(t *testing.T) {
	t.Parallel()
	db := open(t, testenv.Postgres(t, merchantsTable))
	err := web.SyncAPIKeys(t.Context(), db, []config.Merchant{{ID: "acme", Key: "k1"}, {ID: "other", Key: "k1"}})
	if err == nil || !strings.Contains(err.Error(), "MERCHANTS") {
		t.Errorf("got %v", err)
	}
}

// Two replicas start with two configurations, one of which has revoked a key.
func TestSyncAPIKeys_AtTheSameTimeIsOneOfTheTwo(t *testing.T) {
	t.Parallel()
	db := open(t, testenv.Postgres(t, merchantsTable))
	for range 20 {
		var both sync.WaitGroup
		for _, key := range []string{"k1", "k2"} {
			both.Go(func() { seed(t, db, config.Merchant{ID: "acme", Key: key}) })
		}
		both.Wait()
		var n int
		if err := db.QueryRow(t.Context(), `SELECT count(*) FROM merchant_keys`).Scan(&n); err != nil || n != 1 {
			t.Fatalf("%d keys, %v: one revoked key is still there", n, err)
		}
	}
}

func TestRequireMerchant_WrongKeysLeaveATraceThatCannotGrow(t *testing.T) {
	t.Parallel()
	db := open(t, testenv.Postgres(t, merchantsTable))
	s := serve(t, whoami(web.RequireMerchant(db)))
	begin := time.Now()
	for range 50 {
		s.send(t, http.MethodGet, "/me", "", "Authorization", "Bearer sk_guessed")
	}
	lines := strings.Count(s.log.String(), "not authenticated")
	if most := 1 + int(time.Since(begin)/time.Second); lines < 1 || lines > most {
		t.Errorf("%d lines for 50 guesses, want 1 to %d", lines, most)
	}
	if log := s.log.String(); strings.Contains(log, "sk_guessed") || !strings.Contains(log, "127.0.0.1") {
		t.Errorf("the log tells a key, or not from where: %s", log)
	}
	if metrics := s.send(t, http.MethodGet, "/metrics", "").body; !strings.Contains(metrics, `route="/me",status="401"} 50`) {
		t.Error("they are not counted")
	}
}

func TestRequireMerchant_DatabaseOutageIsNotAWrongKey(t *testing.T) {
	t.Parallel()
	s := serve(t, whoami(web.RequireMerchant(open(t, "postgres://nobody@127.0.0.1:1/none"))))
	a := s.send(t, http.MethodGet, "/me", "", "Authorization", "Bearer sk_acme")
	wantProblem(t, a, http.StatusServiceUnavailable, "unavailable", "")
	if a.header.Get("Retry-After") == "" {
		t.Error("the client is not told to try again")
	}
}

func TestRequireServiceKey_RefusesAllWhenNoKeyIsSet(t *testing.T) {
	t.Parallel()
	guarded := serve(t, whoami(web.RequireServiceKey("svc_key")))
	if a := guarded.send(t, http.MethodGet, "/me", "", "Authorization", "Bearer svc_key"); a.status != http.StatusOK {
		t.Errorf("our own service: %d", a.status)
	}
	unset := serve(t, whoami(web.RequireServiceKey("")))
	for _, s := range []*server{guarded, unset} {
		for _, header := range []string{"", "Bearer", "Bearer ", "Bearer svc_ke", "Bearer svc_key2", "Basic svc_key"} {
			wantProblem(t, s.send(t, http.MethodGet, "/me", "", "Authorization", header), http.StatusUnauthorized, "unauthenticated", "Authorization")
		}
	}
}
