package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// listing is what every list command takes.
type listing struct {
	output
	Limit int  `default:"50" help:"At most so many."`
	All   bool `help:"All of them."`
}

// pageSize is the most the API gives at once (experience §3).
const pageSize = 500

// pages reads a list page by page, as much of it as was asked for, and hands each page
// on. next is not empty when there is more.
func (l listing) pages(ctx context.Context, api *client, resource string, query url.Values, each func([]json.RawMessage) error) (next string, err error) {
	query = maps.Clone(query)
	if query == nil {
		query = url.Values{}
	}
	for seen := 0; ; {
		want := pageSize
		if !l.All {
			want = min(l.Limit-seen, pageSize)
		}
		query.Set("limit", strconv.Itoa(want))
		got, err := api.do(ctx, call{method: http.MethodGet, at: strings.Split(resource, "/"), query: query})
		if err != nil {
			return "", err
		}
		var page struct {
			Items []json.RawMessage
			Next  string
		}
		if err := json.Unmarshal(got.body, &page); err != nil {
			return "", fmt.Errorf("reading the answer: %w", err)
		}
		if err := each(page.Items); err != nil {
			return "", err
		}
		if seen += len(page.Items); page.Next == "" || !l.All && seen >= l.Limit {
			return page.Next, nil
		}
		query.Set("cursor", page.Next)
	}
}

// fetch is pages for lists that fit into memory.
func (l listing) fetch(ctx context.Context, api *client, resource string, query url.Values) (items []json.RawMessage, next string, err error) {
	items = []json.RawMessage{}
	next, err = l.pages(ctx, api, resource, query, func(page []json.RawMessage) error {
		items = append(items, page...)
		return nil
	})
	return items, next, err
}

// print fetches a list and prints it: page by page where that looks the same, so that
// a million lines pass through a pipe.
func (l listing) print(ctx context.Context, api *client, s streams, t table, resource string, query url.Values) error {
	var next string
	var err error
	if l.Output == "ndjson" || l.Output == "name" || l.Output != "json" && l.Output != "yaml" && !isTerminal(s.Out) {
		next, err = l.pages(ctx, api, resource, query, func(page []json.RawMessage) error { return l.many(s.Out, t, page, "") })
	} else {
		var items []json.RawMessage
		if items, next, err = l.fetch(ctx, api, resource, query); err == nil {
			err = l.many(s.Out, t, items, next)
		}
	}
	if next != "" && err == nil {
		fmt.Fprintln(s.Err, "there are more: --limit N or --all")
	}
	return err
}

// Validate keeps a limit of nothing from asking for ever.
func (l listing) Validate() error {
	if l.Limit < 1 {
		return fmt.Errorf("--limit is at least 1")
	}
	return nil
}

// flagged is the value of a query parameter that is given or not.
func flagged(given bool) string {
	if given {
		return "true"
	}
	return ""
}

// filters are the query parameters that are not empty.
func filters(pairs ...string) url.Values {
	query := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			query.Set(pairs[i], pairs[i+1])
		}
	}
	return query
}
