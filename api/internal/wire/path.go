package wire

import (
	"cmp"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// route is a path in gin's notation and its segments.
type route struct {
	path     string
	segments []string
}

func (d *Door) addRoute(path string) {
	rt := route{path, strings.Split(path, "/")}
	d.routes = append(d.routes, rt)
	if !slices.ContainsFunc(rt.segments, isID) {
		d.fixed[path] = true
	}
}

// canonical cuts one trailing slash from the path of a request, a copy of the caller's, puts
// the fixed words of the route it fits in lower case, and returns that route; "" if it fits none.
func (d *Door) canonical(r *http.Request) (matched string) {
	// The router reads RawPath where there is one (see NewDoor); Path follows it.
	path := cmp.Or(r.URL.RawPath, r.URL.Path)
	folded, matched := d.fold(path)
	if folded == path {
		return matched
	}
	u := *r.URL
	r.URL = &u
	if u.RawPath == "" {
		u.Path = folded
		return matched
	}
	u.RawPath = folded
	if path, err := url.PathUnescape(folded); err == nil {
		u.Path = path
	}
	return matched
}

func (d *Door) fold(path string) (folded, matched string) {
	if len(path) > 1 {
		path = strings.TrimSuffix(path, "/")
	}
	if d.fixed[path] {
		return path, path
	}
	segments := strings.Split(path, "/")
	for _, rt := range d.routes {
		if rt.fits(segments) {
			return rt.spell(segments), rt.path
		}
	}
	return path, ""
}

func (rt route) fits(segments []string) bool {
	if len(segments) != len(rt.segments) {
		return false
	}
	for i, s := range rt.segments {
		if !isID(s) && !strings.EqualFold(s, segments[i]) {
			return false
		}
	}
	return true
}

// spell writes the fixed words as the route has them.
func (rt route) spell(segments []string) string {
	out := make([]string, len(segments))
	for i, s := range rt.segments {
		if out[i] = s; isID(s) {
			out[i] = segments[i]
		}
	}
	return strings.Join(out, "/")
}

func isID(segment string) bool { return strings.HasPrefix(segment, ":") }
