package main

// The windows of rotation plans have time zones, which a container of this one file does not.
import _ "time/tzdata"
