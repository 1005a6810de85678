// azure-iot-provisioning-service:
//
//   {"call": a method of the client, "connectionString" | "host", "token", "args": [...]}
//
// A query's result is the list of its pages.
'use strict';
const { ProvisioningServiceClient } = require('azure-iot-provisioning-service');
const { call, connect, pages } = require('./calls');

exports.perform = async (r) => {
  const client = connect(ProvisioningServiceClient, r);
  return r.call.endsWith('Query') ? pages(client[r.call](...r.args)) : call(client, r.call, r.args);
};
