package web_test

import (
	"bytes"
	"encoding/hex"
	"net/http"
	"testing"
	"testing/fstest"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/labstack/echo/v4"

	"example.com/failwell/shared/platform/config"
	"example.com/failwell/shared/platform/web"
	"example.com/failwell/shared/testenv"
)

var merchantsTable = fstest.MapFS{"migrations/00001_merchants.sql": {Data: []byte(`-- +goose Up
CREATE TABLE merchants (
    merchant_id    text  PRIMARY KEY,
    key_hash       bytea NOT NULL UNIQUE,
    webhook_secret text
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
	if err := db.QueryRow(t.Context(), `SELECT merchants::text, key_hash FROM merchants`).Scan(&row, &hash); err != nil {
		t.Fatal(err)
	}
	if bytes.Contains([]byte(row), []byte("sk_acme")) || bytes.Contains(hash, []byte("sk_acme")) || len(hash) != 32 {
		t.Errorf("the key can be read: %s", row)
	}
	s := serve(t, whoami(web.RequireMerchant(db)))
	a := s.send(t, http.MethodGet, "/me", "", "Authorization", "Bearer "+hex.EncodeToString(hash))
	wantProblem(t, a, http.StatusUnauthorized, "unauthenticated", "Authorization")
}

func TestSyncAPIKeys_ReplacesAKeyAndKeepsTheMerchant(t *testing.T) {
	t.Parallel()
	db := open(t, testenv.Postgres(t, merchantsTable))
	seed(t, db)
	seed(t, db, config.Merchant{ID: "mer_acme", Key: "sk_old"})
	seed(t, db, config.Merchant{ID: "mer_acme", Key: "sk_new"})
	s := serve(t, whoami(web.RequireMerchant(db)))
	if a := s.send(t, http.MethodGet, "/me", "", "Authorization", "Bearer sk_new"); a.body != "mer_acme" {
		t.Errorf("new key: %d %s", a.status, a.body)
	}
	wantProblem(t, s.send(t, http.MethodGet, "/me", "", "Authorization", "Bearer sk_old"), http.StatusUnauthorized, "unauthenticated", "Authorization")
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
