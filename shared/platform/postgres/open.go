package postgres

import (
	"cmp"
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

	// PreparedTransactions says that two-phase commit is needed, which PostgreSQL does not
	// offer unless it is told to.
	PreparedTransactions bool

	// Logger hears about every failed try to reach the database. Required.
	Logger *slog.Logger

	// Tracer is told of each statement. nil: nothing is.
	Tracer pgx.QueryTracer
}

// The first retry is quick because the database usually starts beside us; the
// last is bounded so that a service is back within seconds of its database.
const (
	openFirstRetry = 100 * time.Millisecond
	openMaxRetry   = 2 * time.Second
)

// Open returns a pool once the database answers. It waits for a database that
// is not there yet, until ctx ends, because services and their database start
// side by side. A refusal that waiting cannot fix (wrong password, no such
// database, a server that is set up in another way than we need) is returned at once.
func Open(ctx context.Context, opts Options) (*pgxpool.Pool, error) {
	cfg, err := pgxpool.ParseConfig(opts.URL)
	if err != nil {
		return nil, fmt.Errorf("postgres: DATABASE_URL: %w", err)
	}
	cfg.MaxConns = cmp.Or(opts.MaxConns, 16)
	cfg.ConnConfig.ConnectTimeout, cfg.ConnConfig.Tracer = connectTimeout, opts.Tracer
	noticeWhoVanished(cfg.ConnConfig)
	var pool *pgxpool.Pool
	leaveChangedServer(cfg.ConnConfig, func() { pool.Reset() })
	// Sixteen bytes on the wire. Without it each id goes out as text, after a first
	// try that fails: a tenth of a busy service's time.
	cfg.AfterConnect = func(_ context.Context, conn *pgx.Conn) error {
		pgxuuid.Register(conn.TypeMap())
		return nil
	}

	if pool, err = pgxpool.NewWithConfig(ctx, cfg); err != nil {
		return nil, fmt.Errorf("postgres: pool: %w", err)
	}

	retry := backoff.NewExponentialBackOff()
	retry.InitialInterval, retry.MaxInterval = openFirstRetry, openMaxRetry
	_, err = backoff.Retry(ctx, func() (struct{}, error) {
		err := pool.Ping(ctx)
		if err != nil && permanent(err) {
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
	if err == nil {
		err = checkServer(ctx, pool, opts)
	}
	if err != nil {
		pool.Close()
		return nil, fmt.Errorf("postgres: open %s: %w", cfg.ConnConfig.Database, err)
	}
	return pool, nil
}

const connectTimeout = 5 * time.Second

// minVersion is the oldest server that this is tested with.
const minVersion = 15

// checkServer refuses a server that would serve until the day on which it is too late: a
// payout that cannot be prepared stays pending until a person finds out why.
func checkServer(ctx context.Context, pool *pgxpool.Pool, opts Options) error {
	var version, prepared int
	var isolation string
	err := pool.QueryRow(ctx, `
		SELECT current_setting('server_version_num')::int / 10000,
		       current_setting('max_prepared_transactions')::int,
		       current_setting('default_transaction_isolation')`).Scan(&version, &prepared, &isolation)
	switch {
	case err != nil:
		return err
	case version < minVersion:
		return fmt.Errorf("the server is PostgreSQL %d: %d or later is needed", version, minVersion)
	case isolation != "read committed":
		return fmt.Errorf("default_transaction_isolation is %q: set it to 'read committed' for this role or database", isolation)
	case opts.PreparedTransactions && prepared == 0:
		return errors.New("max_prepared_transactions is 0: set it to 100 in postgresql.conf and restart the server")
	}
	return nil
}

// leaveChangedServer gives up connections to a server that has changed (see serverChanged),
// all at once: each of them would fail in its turn. New ones are made only to a server that
// takes writes; of several in the URL (host1,host2) that is the primary.
func leaveChangedServer(cfg *pgx.ConnConfig, reset func()) {
	if cfg.ValidateConnect == nil {
		cfg.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsReadWrite
	}
	keep := cfg.OnPgError
	cfg.OnPgError = func(conn *pgconn.PgConn, err *pgconn.PgError) bool {
		if serverChanged(err) {
			reset()
			return false // this one is closed
		}
		return keep(conn, err)
	}
}

// A peer that vanished without a word (power, network) closes no connection. With
// these it is noticed after 15 to 25 s; by itself the kernel takes two hours on a
// silent connection, and a quarter of an hour on one with data on its way.
const (
	keepAliveIdle     = 10 * time.Second
	keepAliveInterval = 5 * time.Second
	keepAliveCount    = 3
	unacknowledged    = 15 * time.Second
)

// noticeWhoVanished tells both ends. The server gives back the locks of a client that is
// gone, and a caller that waits for the server's answer hears that none will come. (What we
// send to a server that is gone is bounded by the sender's time-out.)
func noticeWhoVanished(cfg *pgx.ConnConfig) {
	inUnits := func(d, unit time.Duration) string { return strconv.Itoa(int(d / unit)) }
	cfg.RuntimeParams["tcp_keepalives_idle"] = inUnits(keepAliveIdle, time.Second)
	cfg.RuntimeParams["tcp_keepalives_interval"] = inUnits(keepAliveInterval, time.Second)
	cfg.RuntimeParams["tcp_keepalives_count"] = strconv.Itoa(keepAliveCount)
	// For an answer that is not acknowledged: keep-alive asks nothing while data is on its way.
	cfg.RuntimeParams["tcp_user_timeout"] = inUnits(unacknowledged, time.Millisecond)

	dialer := &net.Dialer{KeepAliveConfig: net.KeepAliveConfig{
		Enable: true, Idle: keepAliveIdle, Interval: keepAliveInterval, Count: keepAliveCount,
	}}
	cfg.DialFunc = dialer.DialContext
}

// permanent is true for refusals that time does not fix: 28 wrong credentials,
// 3D no such database, 42501 no right to connect. A database that is starting
// up or shutting down (57P03) is worth waiting for.
func permanent(err error) bool {
	pgErr, ok := errors.AsType[*pgconn.PgError](err)
	return ok && inClass(pgErr, "28", "3D", "42501")
}
