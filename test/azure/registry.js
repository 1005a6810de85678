// The Registry of azure-iothub:
//
//   {"call": a method of the client, "connectionString" | "host", "token", "args": [...]}
//
// A query's result is the list of its pages.
'use strict';
const { Registry } = require('azure-iothub');
const { call, connect, pages } = require('./calls');

exports.perform = async (r) => {
  const client = connect(Registry, r);
  return r.call === 'createQuery' ? pages(client.createQuery(...r.args)) : call(client, r.call, r.args);
};
