// Package config reads a service's settings from environment variables.
package config

import (
	"cmp"
	"errors"
	"fmt"
	"net/url"
	"os"
	"reflect"
	"slices"
	"strings"

	"github.com/caarlos0/env/v11"

	"example.com/failwell/shared/platform/rabbit"
)

// Common is what every service needs; embed it.
type Common struct {
	// HTTPAddr is the address to listen on, host:port.
	HTTPAddr string `env:"HTTP_ADDR" envDefault:"127.0.0.1:8080"`

	// DatabaseURL is the service's own database, postgres://…. Required.
	DatabaseURL string `env:"DATABASE_URL,required,notEmpty" scheme:"postgres,postgresql"`

	// MigrationsURL is where the migrations run, when a pooler that gives each transaction
	// another session stands before DATABASE_URL. Default: DATABASE_URL.
	MigrationsURL string `env:"MIGRATIONS_URL" scheme:"postgres,postgresql"`

	// Instance names this process in leases; stable across restarts, different
	// for each replica. Default: the host's name, which suits containers.
	Instance string `env:"INSTANCE"`

	// LogLevel is debug, info, warn or error.
	LogLevel string `env:"LOG_LEVEL" envDefault:"info"`

	// LabFaults opens /lab/faults, where anybody can crash this process. Never in production.
	LabFaults bool `env:"LAB_FAULTS" envDefault:"false"`

	// ServiceKey is the bearer key that our own services show each other.
	ServiceKey string `env:"SERVICE_KEY"`

	// Merchants to create at start, id:key:webhook_secret, separated by commas.
	Merchants []Merchant `env:"MERCHANTS"`
}

// SchemaURL is where the migrations run.
func (c Common) SchemaURL() string { return cmp.Or(c.MigrationsURL, c.DatabaseURL) }

// Broker is for services that send or receive messages; embed it beside Common. Apart
// from it, because a process that needs a broker and is given none would start,
// accept work, and try in vain to connect for ever.
type Broker struct {
	// AMQPURL is the broker, amqp://…, or several with commas between them: rabbit.Options. Required.
	AMQPURL string `env:"AMQP_URL,required,notEmpty" scheme:"amqp,amqps"`
}

// Merchant is a client of ours with its secrets.
type Merchant struct {
	ID            string // mer_…
	Key           string // the bearer key; only its hash is stored
	WebhookSecret string // whsec_…, signs the callbacks to this merchant
}

// UnmarshalText reads id:key:webhook_secret.
func (m *Merchant) UnmarshalText(text []byte) error {
	parts := strings.Split(strings.TrimSpace(string(text)), ":")
	if len(parts) != 3 || parts[0] == "" || parts[1] == "" || !strings.HasPrefix(parts[2], "whsec_") {
		// The text itself is not shown: it holds secrets, and errors are logged.
		return errors.New("a merchant must read id:key:whsec_…")
	}
	*m = Merchant{ID: parts[0], Key: parts[1], WebhookSecret: parts[2]}
	return nil
}

// Load reads T from the environment. Its error names every variable that is
// missing or malformed, in one line, so that a start-up is mended in one go.
func Load[T any]() (T, error) {
	cfg, err := env.ParseAs[T]()
	var complaints []string
	var all env.AggregateError
	switch {
	case errors.As(err, &all):
		for _, e := range all.Errors {
			complaints = append(complaints, complaint(reflect.TypeFor[T](), e))
		}
	case err != nil:
		return cfg, fmt.Errorf("configuration: %w", err)
	}
	complaints = append(complaints, malformedURLs(reflect.ValueOf(cfg))...)
	if len(complaints) > 0 {
		return cfg, fmt.Errorf("configuration: %s", strings.Join(complaints, "; "))
	}
	return cfg, nil
}

// malformedURLs checks the fields that name their schemes. The value itself is not
// shown: it holds a password, and errors are logged.
func malformedURLs(settings reflect.Value) (complaints []string) {
	for _, field := range reflect.VisibleFields(settings.Type()) {
		schemes := strings.Split(field.Tag.Get("scheme"), ",")
		text := settings.FieldByIndex(field.Index).String()
		if schemes[0] == "" || text == "" { // whether it may be empty is not asked here
			continue
		}
		if schemes[0] == "amqp" {
			if err := rabbit.CheckURL(text); err != nil {
				complaints = append(complaints, variable(field)+" "+err.Error())
			}
			continue
		}
		u, err := url.Parse(text)
		if err != nil || !slices.Contains(schemes, u.Scheme) || u.Host == "" && u.RawQuery == "" {
			complaints = append(complaints, fmt.Sprintf("%s must read %s://user:password@host:port/name", variable(field), schemes[0]))
		}
	}
	return complaints
}

// complaint puts the variable's name into an error that only knows the Go
// field: whoever starts the service sets variables and has not read the struct.
func complaint(settings reflect.Type, err error) string {
	text := err.Error()
	var malformed env.ParseError
	if errors.As(err, &malformed) {
		for _, field := range reflect.VisibleFields(settings) {
			if field.Name == malformed.Name && field.Type == malformed.Type {
				text = fmt.Sprintf("%s: %v", variable(field), malformed.Err)
			}
		}
	}
	return strings.ReplaceAll(text, "\n", " ")
}

// variable is the name of the environment variable that a field is read from.
func variable(field reflect.StructField) string {
	name, _, _ := strings.Cut(field.Tag.Get("env"), ",")
	return name
}

// InstanceName is the configured instance, or the host's name.
func (c Common) InstanceName() string {
	host, _ := os.Hostname() // "" when it fails
	return cmp.Or(c.Instance, host, "unnamed")
}
