// Package commands is what an operator can do by hand: look at what was parked, what
// is in doubt and what is unknown, and end it.
//
// Each finds the system that `make run` started in this directory by itself. For any
// other, set the address that it asks for. POSTGRES_URL is that of a superuser:
// some commands write, and end the transactions of the services' roles.
package commands

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// serverTimeout is how long a server may take to answer.
const serverTimeout = 5 * time.Second

// Setting reads an address from the environment, or from what `make run` wrote.
func Setting(name string) (string, error) {
	if value := os.Getenv(name); value != "" {
		return value, nil
	}
	text, err := os.ReadFile(filepath.Join(".run", "env"))
	if err == nil {
		for line := range strings.Lines(string(text)) {
			if value, ok := strings.CutPrefix(strings.TrimSpace(line), name+"="); ok {
				return strings.Trim(value, "'"), nil
			}
		}
	}
	return "", fmt.Errorf("%s is not set: start the system with `make run` in this directory, or set it", name)
}

// Addresses finds an address of a system by its name, such as AMQP_URL. Its methods do what
// the commands do, for a program that has its addresses from elsewhere.
type Addresses func(name string) (string, error)

// here is the system that a command finds by itself.
var here = Addresses(Setting)

// database is the address of one of the databases of the running system.
func (a Addresses) database(name string) (string, error) {
	server, err := a("POSTGRES_URL")
	if err != nil {
		return "", err
	}
	u, err := url.Parse(server)
	if err != nil {
		return "", errors.New("POSTGRES_URL must read postgres://user:password@host:port/name") // its own words would show the password
	}
	u.Path = "/" + name
	return u.String(), nil
}

// read reads rows of one of the databases.
func read[T any](ctx context.Context, a Addresses, database, query string) ([]T, error) {
	db, err := a.connect(ctx, database)
	if err != nil {
		return nil, err
	}
	defer db.Close(ctx) //nolint:errcheck // only read
	rows, err := db.Query(ctx, query)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[T])
}

func (a Addresses) connect(ctx context.Context, name string) (*pgx.Conn, error) {
	at, err := a.database(name)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, serverTimeout)
	defer cancel()
	return pgx.Connect(ctx, at)
}
