// Package config reads a service's settings from environment variables.
package config

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"strings"

	"github.com/caarlos0/env/v11"
)

// Common is what every service needs; embed it.
type Common struct {
	// HTTPAddr is the address to listen on, host:port.
	HTTPAddr string `env:"HTTP_ADDR" envDefault:"127.0.0.1:8080"`

	// DatabaseURL is the service's own database, postgres://…. Required.
	DatabaseURL string `env:"DATABASE_URL,required,notEmpty"`

	// AMQPURL is the broker, amqp://…. Required by services that use one.
	AMQPURL string `env:"AMQP_URL"`

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
	if err == nil {
		return cfg, nil
	}
	var all env.AggregateError
	if !errors.As(err, &all) {
		return cfg, fmt.Errorf("configuration: %w", err)
	}
	complaints := make([]string, len(all.Errors))
	for i, e := range all.Errors {
		complaints[i] = complaint(reflect.TypeFor[T](), e)
	}
	return cfg, fmt.Errorf("configuration: %s", strings.Join(complaints, "; "))
}

// complaint puts the variable's name into an error that only knows the Go
// field: whoever starts the service sets variables and has not read the struct.
func complaint(settings reflect.Type, err error) string {
	text := err.Error()
	var malformed env.ParseError
	if errors.As(err, &malformed) {
		for _, field := range reflect.VisibleFields(settings) {
			if field.Name == malformed.Name && field.Type == malformed.Type {
				name, _, _ := strings.Cut(field.Tag.Get("env"), ",")
				text = fmt.Sprintf("%s: %v", name, malformed.Err)
			}
		}
	}
	return strings.ReplaceAll(text, "\n", " ")
}

// InstanceName is the configured instance, or the host's name.
func (c Common) InstanceName() string {
	if c.Instance != "" {
		return c.Instance
	}
	name, err := os.Hostname()
	if err != nil {
		return "unnamed"
	}
	return name
}
