// Package config reads a service's settings from environment variables.
package config

import (
	"cmp"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"reflect"
	"slices"
	"strings"
	"time"

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

	// DatabaseConns bounds the pool of database connections.
	DatabaseConns int32 `env:"DATABASE_CONNS" envDefault:"16"`

	// StopDelay is how long, after the stop signal, connections are still taken while
	// /readyz says 503: long enough for a load balancer to look once more.
	StopDelay time.Duration `env:"STOP_DELAY" envDefault:"1s" zero:"none" most:"5s, or what is under way then is cut off"`

	// LabFaults opens /lab/faults. Never in production.
	LabFaults bool `env:"LAB_FAULTS" envDefault:"false" lab:"anybody can crash this process and read its memory"`

	// ServiceKey is the bearer key that our own services show each other, 16 characters or more.
	ServiceKey string `env:"SERVICE_KEY" secret:"key"`

	// Merchants that may call, id:key:webhook_secret, separated by commas. A merchant that
	// changes its key stands here twice, with the old key and with the new one; of two
	// secrets the last counts. A key that is not here any more is revoked at the next start.
	Merchants []Merchant `env:"MERCHANTS"`
}

// Level is the log level.
func (c Common) Level() string { return c.LogLevel }

// SchemaURL is where the migrations run.
func (c Common) SchemaURL() string { return cmp.Or(c.MigrationsURL, c.DatabaseURL) }

// Broker is for services that send or receive messages; embed it beside Common. Apart
// from it, because a process that needs a broker and is given none would start,
// accept work, and try to connect forever.
type Broker struct {
	// AMQPURL is the broker, amqp://…, or several with commas between them: rabbit.Options. Required.
	AMQPURL string `env:"AMQP_URL,required,notEmpty" scheme:"amqp,amqps"`

	// OutboxTakeover and OutboxPoll: see outbox.Config.
	OutboxTakeover time.Duration `env:"OUTBOX_TAKEOVER" envDefault:"1s" above:"OUTBOX_POLL, or processes take over what its writer would have sent in time"`
	OutboxPoll     time.Duration `env:"OUTBOX_POLL" envDefault:"500ms"`

	// RetryDelays is how long a message that could not be handled waits before
	// each further try. After the last it is parked.
	RetryDelays []time.Duration `env:"RETRY_DELAYS" envDefault:"1s,5s,30s,2m,10m"`

	// Workers is how many messages are handled at the same time.
	Workers int `env:"WORKERS" envDefault:"32"`

	// InboxRetention is how long it is remembered that a message was handled. It must exceed
	// the longest time after which one can come again: parked, and replayed by a person.
	InboxRetention time.Duration `env:"INBOX_RETENTION" envDefault:"720h" above:"RETRY_DELAYS, or a message is forgotten while it is still tried"`
}

// Merchant is a client of ours with its secrets.
type Merchant struct {
	ID            string // mer_…
	Key           string // the bearer key; only its hash is stored
	WebhookSecret string // whsec_…, signs the callbacks to this merchant
}

// UnmarshalText reads id:key:webhook_secret. It never shows the text: errors are logged.
func (m *Merchant) UnmarshalText(text []byte) error {
	parts := strings.Split(strings.TrimSpace(string(text)), ":")
	if len(parts) != 3 || parts[0] == "" {
		return errors.New("a merchant must read id:key:whsec_…")
	}
	*m = Merchant{ID: parts[0], Key: parts[1], WebhookSecret: parts[2]}
	return cmp.Or(checkKey(m.Key), checkWebhookSecret(m.WebhookSecret))
}

// WarnOfLab warns of each setting that is set and belongs into a lab: one with a tag
// lab, which says what it opens.
func WarnOfLab(log *slog.Logger, cfg any) {
	settings := reflect.ValueOf(cfg)
	for _, field := range reflect.VisibleFields(settings.Type()) {
		opens := field.Tag.Get("lab")
		if opens != "" && !settings.FieldByIndex(field.Index).IsZero() {
			log.Warn("a setting of the lab, never for production", "variable", variable(field), "opens", opens)
		}
	}
}

// Load reads T from the environment, and checks it when it has a method Validate() error.
// Its error names every variable that is missing or malformed, in one line, so that they
// can be corrected together.
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
	complaints = append(complaints, malformed(reflect.ValueOf(cfg))...)
	if len(complaints) == 0 {
		complaints = outOfBounds(reflect.ValueOf(cfg))
	}
	if len(complaints) > 0 {
		return cfg, fmt.Errorf("configuration: %s", strings.Join(complaints, "; "))
	}
	if v, ok := any(cfg).(interface{ Validate() error }); ok {
		return cfg, v.Validate()
	}
	return cfg, nil
}

// malformed checks the fields with a tag scheme (an address, with these schemes) or secret
// (a key or a webhook-secret). The value itself is not shown: errors are logged.
func malformed(settings reflect.Value) (complaints []string) {
	for _, field := range reflect.VisibleFields(settings.Type()) {
		scheme, secret := field.Tag.Get("scheme"), field.Tag.Get("secret")
		if scheme == "" && secret == "" || settings.FieldByIndex(field.Index).IsZero() { // whether it may be empty is not asked here
			continue
		}
		var err error
		switch text := settings.FieldByIndex(field.Index).String(); {
		case secret == "key":
			err = checkKey(text)
		case secret == "webhook-secret":
			err = checkWebhookSecret(text)
		case strings.HasPrefix(scheme, "amqp"):
			err = rabbit.CheckURL(text)
		default:
			err = checkURL(text, strings.Split(scheme, ","))
		}
		if err != nil {
			complaints = append(complaints, variable(field)+" "+err.Error())
		}
	}
	return complaints
}

// outOfBounds checks the numbers and durations. Each must be above zero, but where a tag zero
// says what zero means. A tag above names a variable whose value a field must exceed (the sum,
// of a list), and a tag most its own limit; both say what happens otherwise.
func outOfBounds(settings reflect.Value) (complaints []string) {
	values := map[string]time.Duration{}
	for _, field := range reflect.VisibleFields(settings.Type()) {
		name := variable(field)
		switch v := settings.FieldByIndex(field.Index); {
		case v.CanInt():
			values[name] = time.Duration(v.Int())
		case v.Type() == reflect.TypeFor[[]time.Duration]():
			for i := range v.Len() {
				values[name] += max(0, time.Duration(v.Index(i).Int()))
			}
		}
	}
	for _, field := range reflect.VisibleFields(settings.Type()) {
		name := variable(field)
		value, isNumber := values[name]
		other, otherwise, _ := strings.Cut(field.Tag.Get("above"), ", ")
		most, cutOff, _ := strings.Cut(field.Tag.Get("most"), ", ")
		limit, _ := time.ParseDuration(most)
		switch {
		case isNumber && (value < 0 || value == 0 && field.Tag.Get("zero") == ""):
			complaints = append(complaints, name+" must be above zero")
		case other != "" && value <= values[other]:
			complaints = append(complaints, fmt.Sprintf("%s (%s) must exceed %s (%s), %s", name, value, other, values[other], otherwise))
		case most != "" && value > limit:
			complaints = append(complaints, fmt.Sprintf("%s (%s) must be at most %s, %s", name, value, most, cutOff))
		}
	}
	return complaints
}

func checkURL(text string, schemes []string) error {
	u, err := url.Parse(text)
	if err != nil || !slices.Contains(schemes, u.Scheme) || u.Host == "" && u.RawQuery == "" {
		return fmt.Errorf("must read %s://user:password@host:port/name", schemes[0])
	}
	return nil
}

// checkKey refuses a bearer key that can be guessed. A random one of 16 characters cannot.
func checkKey(key string) error {
	if len(key) < 16 {
		return errors.New("must have 16 characters or more, or it can be guessed")
	}
	return nil
}

// checkWebhookSecret refuses half a secret. With an empty one, which is base64 too,
// anybody could sign.
func checkWebhookSecret(text string) error {
	encoded, ok := strings.CutPrefix(text, "whsec_")
	secret, err := base64.StdEncoding.DecodeString(encoded)
	if !ok || err != nil || len(secret) < 24 {
		return errors.New("must be whsec_ and base64 of 24 bytes or more")
	}
	return nil
}

// complaint puts the variable's name into an error that only knows the Go
// field: an operator sets variables and has not read the struct.
func complaint(settings reflect.Type, err error) string {
	text := err.Error()
	if malformed, ok := errors.AsType[env.ParseError](err); ok {
		if field, found := settings.FieldByName(malformed.Name); found {
			text = fmt.Sprintf("%s: %v", variable(field), malformed.Err)
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
