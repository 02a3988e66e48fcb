package testenv

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

const postgresPassword = "failwell"

type localPostgres struct {
	bin, dir string
	port     int
	release  func()
	as       *syscall.Credential // nil: as ourselves
	process  *process
}

// newLocalPostgres initialises a data directory; it does not start the server.
func newLocalPostgres(ctx context.Context, bin, dir string) (*localPostgres, error) {
	port, release, err := HoldPort()
	if err != nil {
		return nil, err
	}
	pg := &localPostgres{bin: bin, dir: dir, port: port, release: release}
	if err := os.Mkdir(dir, 0o755); err != nil { //nolint:gosec // the data directory inside is private
		return nil, err
	}
	if err := pg.dropRoot(); err != nil {
		return nil, err
	}
	pwfile := filepath.Join(dir, "password")
	if err := os.WriteFile(pwfile, []byte(postgresPassword+"\n"), 0o644); err != nil { //nolint:gosec // it stands in this file, too
		return nil, err
	}
	// No sync of the empty cluster (-N): if the machine dies now, nobody misses
	// it. The server itself runs with fsync on.
	initdb := exec.CommandContext(ctx, filepath.Join(bin, "initdb"), "-N", "-D", pg.data(), "-U", "postgres",
		"--pwfile", pwfile, "-A", "scram-sha-256", "-E", "UTF8", "--locale=C")
	initdb.SysProcAttr = &syscall.SysProcAttr{Credential: pg.as}
	initdb.Dir = dir
	if out, err := initdb.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("initdb: %w: %s", err, out)
	}
	return pg, nil
}

// dropRoot: PostgreSQL refuses to run as root.
func (pg *localPostgres) dropRoot() error {
	if os.Geteuid() != 0 {
		return nil
	}
	account, err := user.Lookup("postgres")
	if err != nil {
		account, err = user.Lookup("nobody")
	}
	if err != nil {
		return fmt.Errorf("PostgreSQL must not run as root, and there is neither a user postgres nor nobody: %w", err)
	}
	uid, err := strconv.ParseUint(account.Uid, 10, 32)
	if err != nil {
		return err
	}
	gid, err := strconv.ParseUint(account.Gid, 10, 32)
	if err != nil {
		return err
	}
	pg.as = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	return os.Chown(pg.dir, int(uid), int(gid))
}

// postgresSettings are those of a database in service, as in docker-compose.yml. The
// defaults are for a machine with 128 MB to spare: an index that is larger is read and
// written page by page, and a page that is touched for the first time after a
// checkpoint goes into the log whole.
var postgresSettings = []string{
	"-c", "max_connections=300",
	"-c", "max_prepared_transactions=100", // off by default; payouts need it
	"-c", "shared_buffers=512MB",
	"-c", "max_wal_size=2GB", // fewer checkpoints
	"-c", "wal_compression=lz4", // of those whole pages
}

func (pg *localPostgres) data() string { return filepath.Join(pg.dir, "data") }
func (pg *localPostgres) log() string  { return filepath.Join(pg.dir, "log") }
func (pg *localPostgres) url() string {
	return fmt.Sprintf("postgres://postgres:%s@127.0.0.1:%d/postgres", postgresPassword, pg.port)
}

// start starts the server and returns when it answers. After a kill the last
// backends may live a moment longer and hold the shared memory; the new server
// then gives up, and is started again.
func (pg *localPostgres) start(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, bootTimeout)
	defer cancel()
	for {
		if pg.process == nil || pg.process.ended() {
			cmd := exec.Command(filepath.Join(pg.bin, "postgres"), append(postgresSettings, "-D", pg.data(), //nolint:noctx // it outlives this call
				"-p", strconv.Itoa(pg.port), "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=")...)
			cmd.Dir = pg.dir
			p, err := startProcess(cmd, pg.log(), pg.as)
			if err != nil {
				return err
			}
			pg.process = p
		}
		conn, err := pgx.Connect(ctx, pg.url())
		if err == nil {
			return conn.Close(ctx)
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("PostgreSQL does not come up: %w\n%s", err, tail(pg.log()))
		}
	}
}

func (pg *localPostgres) stop(ctx context.Context) error {
	return pg.process.signal(ctx, syscall.SIGINT, false) // fast shutdown
}

// kill hits the postmaster; its backends are in sessions of their own, notice
// that it is gone, and end.
func (pg *localPostgres) kill(ctx context.Context) error {
	return pg.process.signal(ctx, syscall.SIGKILL, false)
}

func (pg *localPostgres) close(ctx context.Context) error {
	defer pg.release()
	if pg.process == nil {
		return nil
	}
	return pg.process.signal(ctx, syscall.SIGQUIT, false) // immediate shutdown, takes the backends along
}
