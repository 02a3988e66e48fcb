package web

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/labstack/echo/v4"

	"example.com/failwell/shared/platform/config"
	"example.com/failwell/shared/platform/postgres"
)

const merchantKey = "merchant"

// cacheFor is how long a key stays accepted after it was revoked. Without the
// cache every request would cost a round trip of its own.
const cacheFor = 10 * time.Second

// MerchantID returns the merchant that the request was authenticated as.
func MerchantID(c echo.Context) string {
	id, _ := c.Get(merchantKey).(string)
	return id
}

// RequireMerchant lets only requests with a merchant's bearer key through. It reads
// merchant_keys, which each service's migration creates in its own database.
//
// Keys are stored as SHA-256: a reader of the table cannot use it. A slow
// password hash is not needed, because keys are long and random.
func RequireMerchant(db *pgxpool.Pool) echo.MiddlewareFunc {
	// Wrong keys are not remembered, so a flood of them cannot fill it.
	var known sync.Map // SHA-256 of a key that was right -> keyEntry
	return func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) error {
			key, ok := bearer(c.Request())
			if !ok {
				return unauthenticated(c)
			}
			hash := sha256.Sum256([]byte(key))
			cached, _ := known.Load(hash)
			entry, _ := cached.(keyEntry)
			if time.Now().After(entry.until) {
				err := db.QueryRow(c.Request().Context(), `
					SELECT merchant_id
					  FROM merchant_keys
					 WHERE key_hash = $1`,
					hash[:]).Scan(&entry.merchant)
				if errors.Is(err, pgx.ErrNoRows) {
					return unauthenticated(c)
				}
				if err != nil {
					return err // a database that is away is no reason to say "wrong key"
				}
				entry.until = time.Now().Add(cacheFor)
				known.Store(hash, entry)
			}
			c.Set(merchantKey, entry.merchant)
			return next(c)
		}
	}
}

// RequireServiceKey lets only our own services through.
func RequireServiceKey(key string) echo.MiddlewareFunc {
	return func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) error {
			if !hasKey(c.Request(), key) {
				return unauthenticated(c)
			}
			return next(c)
		}
	}
}

// hasKey tells whether a request shows the key of our own services; "" is none.
func hasKey(r *http.Request, key string) bool {
	shown, ok := bearer(r)
	return ok && key != "" && subtle.ConstantTimeCompare([]byte(shown), []byte(key)) == 1
}

func bearer(r *http.Request) (string, bool) {
	scheme, key, _ := strings.Cut(r.Header.Get(echo.HeaderAuthorization), " ")
	return key, strings.EqualFold(scheme, "Bearer") && key != ""
}

func unauthenticated(c echo.Context) error {
	c.Response().Header().Set(echo.HeaderWWWAuthenticate, "Bearer")
	return NewProblem(http.StatusUnauthorized, "unauthenticated", "Not authenticated",
		"Send your key: Authorization: Bearer <key>.").WithField("Authorization")
}

type keyEntry struct {
	merchant string
	until    time.Time
}

// SyncAPIKeys makes the keys in the database those of the configuration, hashed: a key
// that is not configured any more, or whose merchant is not, is revoked. The merchant
// itself stays, because its orders do.
func SyncAPIKeys(ctx context.Context, db *pgxpool.Pool, merchants []config.Merchant) error {
	err := postgres.Write(ctx, db, func(b *pgx.Batch) {
		// Of two replicas that start at the same time, the second waits here. Otherwise its
		// DELETE would not see a key that the first one has just inserted, and revoke less.
		b.Queue(`SELECT pg_advisory_xact_lock(hashtext('merchant_keys'))`)
		b.Queue(`DELETE FROM merchant_keys`)
		for _, m := range merchants {
			hash := sha256.Sum256([]byte(m.Key))
			b.Queue(`
				INSERT INTO merchants (merchant_id, webhook_secret)
				VALUES ($1, $2)
				ON CONFLICT (merchant_id) DO UPDATE
				   SET webhook_secret = EXCLUDED.webhook_secret`,
				m.ID, m.WebhookSecret)
			b.Queue(`
				INSERT INTO merchant_keys (key_hash, merchant_id)
				VALUES ($1, $2)`,
				hash[:], m.ID)
		}
	})
	if postgres.Violates(err, "merchant_keys_pkey") {
		err = errors.New("MERCHANTS: a key is there twice")
	}
	return err
}
