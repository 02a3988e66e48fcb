package testenv

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"time"
)

// bootTimeout bounds the start of one server on a slow, busy machine.
const bootTimeout = 90 * time.Second

// startLocal starts private instances from the binaries on this machine.
func startLocal(ctx context.Context, opts Options) (*Env, error) {
	pgBin, rabbitBin := findPostgres(), findRabbit()
	if pgBin == "" && !opts.WithoutPostgres {
		return nil, fmt.Errorf("PostgreSQL's server binaries are %w", errNotHere)
	}
	if rabbitBin == "" && !opts.WithoutRabbit {
		return nil, fmt.Errorf("RabbitMQ's server is %w", errNotHere)
	}
	dir, remove, err := tempDir()
	if err != nil {
		return nil, err
	}
	env := &Env{Source: "local binaries", cleanup: []func(){remove}}

	// The two boot side by side: the broker takes several seconds.
	errs := make(chan error, 2)
	go func() { errs <- env.startLocalPostgres(ctx, opts, pgBin, dir) }()
	go func() { errs <- env.startLocalRabbit(ctx, opts, rabbitBin, dir) }()
	for range 2 {
		if e := <-errs; e != nil && err == nil {
			err = e
		}
	}
	if err != nil {
		env.closeLocal()
		return nil, err
	}
	env.cleanup = append(env.cleanup, env.closeServers)
	return env, nil
}

func (e *Env) startLocalPostgres(ctx context.Context, opts Options, bin, dir string) error {
	if opts.WithoutPostgres {
		return nil
	}
	start := time.Now()
	pg, err := newLocalPostgres(ctx, bin, filepath.Join(dir, "postgres"))
	if err != nil {
		return err
	}
	e.postgres, e.PostgresURL = pg, pg.url()
	if err := pg.start(ctx); err != nil {
		return err
	}
	fmt.Fprintf(opts.Log, "PostgreSQL ready after %.1f s\n", time.Since(start).Seconds())
	return nil
}

func (e *Env) startLocalRabbit(ctx context.Context, opts Options, bin, dir string) error {
	if opts.WithoutRabbit {
		return nil
	}
	start := time.Now()
	rabbit, err := newLocalRabbit(bin, filepath.Join(dir, "rabbit"))
	if err != nil {
		return err
	}
	e.rabbit, e.AMQPURL, e.RabbitAPI = rabbit, rabbit.url(), rabbit.api()
	if err := rabbit.start(ctx); err != nil {
		return err
	}
	fmt.Fprintf(opts.Log, "RabbitMQ ready after %.1f s\n", time.Since(start).Seconds())
	return nil
}

// closeServers kills: what they hold is thrown away anyway.
func (e *Env) closeServers() {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if pg, ok := e.postgres.(*localPostgres); ok {
		_ = pg.close(ctx)
	}
	if rabbit, ok := e.rabbit.(*localRabbit); ok {
		_ = rabbit.close(ctx)
	}
}

func (e *Env) closeLocal() {
	e.closeServers()
	e.Close()
}

// tempDir makes a directory that is ours as long as we live, and sweeps up those
// of processes that were killed. A file lock tells the living from the dead; a
// process id could have been given to somebody else.
func tempDir() (dir string, remove func(), err error) {
	// One at a time: between the making of a directory and its lock it looks dead.
	// Each user has names of its own: another's files cannot be opened, or removed.
	ours := filepath.Join(os.TempDir(), fmt.Sprintf("failwell-env-%d", os.Getuid()))
	turn, err := os.OpenFile(ours+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return "", nil, err
	}
	defer turn.Close() //nolint:errcheck // closing gives up the lock
	if err := syscall.Flock(int(turn.Fd()), syscall.LOCK_EX); err != nil {
		return "", nil, err
	}
	old, _ := filepath.Glob(ours + "-*")
	for _, d := range old {
		if lock, err := lockDir(d); err == nil {
			_ = os.RemoveAll(d)
			_ = lock.Close()
		}
	}
	dir, err = os.MkdirTemp("", filepath.Base(ours)+"-")
	if err != nil {
		return "", nil, err
	}
	lock, err := lockDir(dir)
	if err != nil {
		return "", nil, err
	}
	// The servers run as other users and must be able to pass through.
	if err := os.Chmod(dir, 0o755); err != nil { //nolint:gosec // nothing secret lies in it
		return "", nil, err
	}
	return dir, func() {
		_ = os.RemoveAll(dir)
		_ = lock.Close()
	}, nil
}

func lockDir(dir string) (*os.File, error) {
	file, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = file.Close()
		return nil, err
	}
	return file, nil
}

// findPostgres returns the directory of PostgreSQL's server binaries, the newest
// version first; distributions keep them off the PATH. "" when there is none.
func findPostgres() string {
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	more, _ := filepath.Glob("/usr/pgsql-*/bin/initdb")
	found = append(found, more...)
	slices.Sort(found)
	if len(found) > 0 {
		return filepath.Dir(found[len(found)-1])
	}
	if path, err := exec.LookPath("initdb"); err == nil {
		return filepath.Dir(path)
	}
	return ""
}

// findRabbit returns the broker's own start script, not the distribution's
// wrapper around it, which insists on being root or rabbitmq. "" when there is none.
func findRabbit() string {
	found, _ := filepath.Glob("/usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin/rabbitmq-server")
	if len(found) > 0 {
		slices.Sort(found)
		return found[len(found)-1]
	}
	return ""
}
