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
//
//	CREATE TABLE merchants (
//	    merchant_id    text  PRIMARY KEY,
//	    key_hash       bytea NOT NULL UNIQUE,
//	    webhook_secret text
//	);
//
// which each service's migration creates in its own database.
//
// Keys are stored as SHA-256: whoever reads the table cannot use it. A slow
// password hash is not needed, because keys are long and random.
func RequireMerchant(db *pgxpool.Pool) echo.MiddlewareFunc {
	// Wrong keys are not remembered, so a flood of them cannot fill it.
	var known sync.Map // SHA-256 of a key that was right -> keyEntry
	return func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) error {
			key, ok := bearer(c)
			if !ok {
				return unauthenticated(c)
			}
			hash := sha256.Sum256([]byte(key))
			cached, _ := known.Load(hash)
			entry, _ := cached.(keyEntry)
			if time.Now().After(entry.until) {
				err := db.QueryRow(c.Request().Context(), `
					SELECT merchant_id
					  FROM merchants
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
			shown, ok := bearer(c)
			if !ok || key == "" || subtle.ConstantTimeCompare([]byte(shown), []byte(key)) != 1 {
				return unauthenticated(c)
			}
			return next(c)
		}
	}
}

func bearer(c echo.Context) (string, bool) {
	scheme, key, _ := strings.Cut(c.Request().Header.Get(echo.HeaderAuthorization), " ")
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

// SyncAPIKeys stores the merchants of the configuration, with their keys hashed. It
// overwrites the key of a merchant that is there already: the configuration decides, at
// each start. A merchant that is not in the configuration keeps its key.
func SyncAPIKeys(ctx context.Context, db *pgxpool.Pool, merchants []config.Merchant) error {
	if len(merchants) == 0 {
		return nil
	}
	return postgres.Write(ctx, db, func(b *pgx.Batch) {
		for _, m := range merchants {
			hash := sha256.Sum256([]byte(m.Key))
			b.Queue(`
				INSERT INTO merchants (merchant_id, key_hash, webhook_secret)
				VALUES ($1, $2, $3)
				ON CONFLICT (merchant_id) DO UPDATE
				   SET key_hash       = EXCLUDED.key_hash,
				       webhook_secret = EXCLUDED.webhook_secret`,
				m.ID, hash[:], m.WebhookSecret)
		}
	})
}
