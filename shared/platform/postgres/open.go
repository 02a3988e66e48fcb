package postgres

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	pgxuuid "github.com/vgarvardt/pgx-google-uuid/v5"
)

// Options configures a pool.
type Options struct {
	// URL is a connection URL, postgres://user:password@host:port/database. Required.
	URL string

	// MaxConns bounds the pool. Default 16: on a small machine more sessions
	// queue for the same cores, and a pool that is too large turns a slow
	// database into a dead one.
	MaxConns int32

	// Logger hears about every failed try to reach the database. Required.
	Logger *slog.Logger
}

// The first retry is quick because the database usually starts beside us; the
// last is bounded so that a service is back within seconds of its database.
const (
	openFirstRetry = 100 * time.Millisecond
	openMaxRetry   = 2 * time.Second
)

// Open returns a pool once the database answers. It waits for a database that
// is not there yet, until ctx ends, because services and their database start
// side by side. A refusal that waiting cannot mend (wrong password, no such
// database) is returned at once.
func Open(ctx context.Context, opts Options) (*pgxpool.Pool, error) {
	cfg, err := pgxpool.ParseConfig(opts.URL)
	if err != nil {
		return nil, fmt.Errorf("postgres: DATABASE_URL: %w", err)
	}
	cfg.MaxConns = 16
	if opts.MaxConns > 0 {
		cfg.MaxConns = opts.MaxConns
	}
	cfg.ConnConfig.ConnectTimeout = connectTimeout
	noticeWhoVanished(cfg.ConnConfig)
	// Sixteen bytes on the wire. Without it each id goes out as text, after a first
	// try that fails: a tenth of a busy service's time.
	cfg.AfterConnect = func(_ context.Context, conn *pgx.Conn) error {
		pgxuuid.Register(conn.TypeMap())
		return nil
	}

	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("postgres: pool: %w", err)
	}

	retry := backoff.NewExponentialBackOff()
	retry.InitialInterval, retry.MaxInterval = openFirstRetry, openMaxRetry
	_, err = backoff.Retry(ctx, func() (struct{}, error) {
		err := pool.Ping(ctx)
		if err != nil && hopeless(err) {
			return struct{}{}, backoff.Permanent(err)
		}
		return struct{}{}, err
	},
		backoff.WithBackOff(retry),
		backoff.WithMaxElapsedTime(0),
		backoff.WithNotify(func(err error, next time.Duration) {
			opts.Logger.Warn("database not reachable yet",
				"address", fmt.Sprintf("%s:%d/%s", cfg.ConnConfig.Host, cfg.ConnConfig.Port, cfg.ConnConfig.Database),
				"error", err, "next_try_in", next.Round(time.Millisecond))
		}))
	if err != nil {
		pool.Close()
		return nil, fmt.Errorf("postgres: open %s: %w", cfg.ConnConfig.Database, err)
	}
	return pool, nil
}

const connectTimeout = 5 * time.Second

// A peer that vanished without a word (power, network) closes no connection. With
// these it is noticed after 15 to 25 s; by itself the kernel takes two hours on a
// silent connection, and a quarter of an hour on one with data on its way.
const (
	keepAliveIdle     = 10 * time.Second
	keepAliveInterval = 5 * time.Second
	keepAliveCount    = 3
	unacknowledged    = 15 * time.Second
)

// noticeWhoVanished tells both ends. The server's view of us: it ends our session,
// and gives back the locks of a transaction that nobody will go on with. Our view of
// the server: whoever waits for an answer hears that none will come. (What we send
// to a server that is gone is bounded by the time-out of whoever sends it.)
func noticeWhoVanished(cfg *pgx.ConnConfig) {
	inUnits := func(d, unit time.Duration) string { return strconv.Itoa(int(d / unit)) }
	cfg.RuntimeParams["tcp_keepalives_idle"] = inUnits(keepAliveIdle, time.Second)
	cfg.RuntimeParams["tcp_keepalives_interval"] = inUnits(keepAliveInterval, time.Second)
	cfg.RuntimeParams["tcp_keepalives_count"] = strconv.Itoa(keepAliveCount)
	// For an answer that nobody acknowledges: keep-alive asks nothing while data is on its way.
	cfg.RuntimeParams["tcp_user_timeout"] = inUnits(unacknowledged, time.Millisecond)

	dialer := &net.Dialer{KeepAliveConfig: net.KeepAliveConfig{
		Enable: true, Idle: keepAliveIdle, Interval: keepAliveInterval, Count: keepAliveCount,
	}}
	cfg.DialFunc = dialer.DialContext
}

// hopeless is true for refusals that time does not mend: 28 wrong credentials,
// 3D no such database, 42501 no right to connect. A database that is starting
// up or shutting down (57P03) is worth waiting for.
func hopeless(err error) bool {
	var pgErr *pgconn.PgError
	if !errors.As(err, &pgErr) {
		return false
	}
	class := pgErr.Code[:2]
	return class == "28" || class == "3D" || pgErr.Code == "42501"
}
