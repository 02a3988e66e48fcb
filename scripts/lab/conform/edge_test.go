package conform

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// takesJSON is an endpoint as it should be, with one bug.
type takesJSON struct{ bug string }

type note struct {
	Name  string `json:"name"`
	Count int    `json:"count"`
}

func (e takesJSON) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if e.bug != "says nothing of types" {
		w.Header().Set("X-Content-Type-Options", "nosniff")
	}
	if e.bug != "lets its answers be stored" {
		w.Header().Set("Cache-Control", "no-store")
	}
	if id := r.Header.Get("X-Request-Id"); len(id) <= 100 || e.bug == "repeats any id" {
		w.Header().Set("X-Request-Id", id)
	}
	switch {
	case r.Method == http.MethodGet, r.Method == http.MethodHead && e.bug != "has no HEAD":
		switch id := strings.TrimPrefix(r.URL.Path, "/notes/"); {
		case e.bug == "looks at the path as it was sent" && strings.Contains(r.RequestURI, "%31"):
			w.WriteHeader(http.StatusNotFound)
		case strings.Contains(id, "\x00") && e.bug == "asks its database for anything", len(id) > 1000 && e.bug == "asks for an id of any length":
			w.WriteHeader(http.StatusInternalServerError)
		case id != "1":
			w.WriteHeader(http.StatusNotFound)
		default:
			_, _ = io.WriteString(w, "a note")
		}
		return
	case r.Method != http.MethodPost:
		w.WriteHeader(http.StatusMethodNotAllowed)
		return
	case strings.Contains(r.Header.Get("Content-Type"), "charset=") && e.bug != "takes any charset":
		w.WriteHeader(http.StatusUnsupportedMediaType)
		return
	case r.Header.Get("Content-Encoding") != "" && e.bug != "looks at no encoding":
		w.WriteHeader(http.StatusUnsupportedMediaType)
		return
	}
	body, _ := io.ReadAll(r.Body)
	options := []json.Options{
		json.RejectUnknownMembers(e.bug != "drops unknown names"),
		jsontext.AllowDuplicateNames(e.bug == "takes the last of two"),
		jsontext.AllowInvalidUTF8(e.bug == "takes any bytes"),
		json.MatchCaseInsensitiveNames(e.bug == "looks at no case"),
	}
	var n note
	switch err := json.Unmarshal(body, &n, options...); {
	case err != nil:
		w.WriteHeader(http.StatusBadRequest)
	case strings.Contains(n.Name, "\x00") && e.bug == "has a database that refuses":
		w.WriteHeader(http.StatusInternalServerError)
	case utf8.ValidString(n.Name) || e.bug == "takes any bytes":
		w.Header().Set("Location", "/notes/1")
		w.WriteHeader(http.StatusCreated)
	}
}

func TestEdgeCases_EachCanFail(t *testing.T) {
	t.Parallel()
	everyCaseCanFail(t, Edge, map[string][]string{
		"none":                             nil,
		"lets its answers be stored":       {"no-store"},
		"looks at the path as it was sent": {"escaped-path"},
		"asks its database for anything":   {"zero-byte-in-path"},
		"asks for an id of any length":     {"long-id"},
		"takes any bytes":                  {"not-utf-8"},
		"takes any charset":                {"other-charset"},
		"looks at no encoding":             {"compressed"},
		"has a database that refuses":      {"zero-byte"},
		"takes the last of two":            {"name-twice"},
		"drops unknown names":              {"unknown-name", "other-case"},
		"looks at no case":                 {"other-case"},
		"takes any headers":                {"huge-headers"},
		"repeats any id":                   {"request-id-echoed"},
		"says nothing of types":            {"nosniff"},
		"has no HEAD":                      {"head"},
	}, func(bug string) []string {
		server := httptest.NewUnstartedServer(takesJSON{bug})
		server.Config.MaxHeaderBytes = 8 << 10
		if bug == "takes any headers" {
			server.Config.MaxHeaderBytes = 8 << 20
		}
		server.Start()
		defer server.Close()
		return red(t, bug, &Target{URL: server.URL, Body: func(context.Context) ([]byte, error) {
			return []byte(`{"name":"tea","count":1}`), nil
		}}, Edge)
	})
}

func TestEdgeCases_WhatIsNotShownIsNotJudged(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }))
	defer server.Close()
	target := &Target{URL: server.URL, Body: func(context.Context) ([]byte, error) { return []byte(`{}`), nil }}
	for _, c := range Edge {
		switch c.ID {
		case "not-utf-8", "zero-byte", "name-twice", "unknown-name", "other-case", "escaped-path", "zero-byte-in-path", "long-id", "head":
			if err := c.Run(t.Context(), target); !isNotJudged(err) {
				t.Errorf("%s: %v", c.ID, err)
			}
		}
	}
}
