package store

import (
	"strconv"
	"time"
)

// Notices stand in meta, under their text: there are few.
var (
	selectNotice = statement("SELECT value FROM meta WHERE key = ?")
	insertNotice = statement("INSERT INTO meta (key, value) VALUES (?, ?)").unique(exists("notice"))
)

func (t *tx) Noticed(notice string) (noticed bool, err error) {
	err = t.query(selectNotice, func(*row) error {
		noticed = true
		return nil
	}, noticeKey(notice))
	return noticed, err
}

func (t *tx) Notice(notice string, at time.Time) error {
	return t.exec(insertNotice, noticeKey(notice), strconv.FormatInt(micros(at), 10))
}

func noticeKey(notice string) string { return "notice " + notice }
