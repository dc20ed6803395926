/**
 * Builds the prebuilt extension: src/ and style/ become majlis_lab/labextension/.
 *
 * JupyterLab's own builder installs 360 packages for this, most of them to learn which packages the page already has.
 * We know: those that we name below come from the page, everything else is ours. That leaves one dependency, rspack.
 */
import { readFile, rm, writeFile } from 'node:fs/promises';
import { resolve } from 'node:path';

import { rspack } from '@rspack/core';

const here = import.meta.dirname;
const manifest = JSON.parse(await readFile(resolve(here, 'package.json'), 'utf-8'));
const output = resolve(here, manifest.jupyterlab.outputDir);
const entry = resolve(here, manifest.main);

// The page's packages: whatever the sources import is a type for us and comes from JupyterLab at run time.
const provided = Object.keys(manifest.devDependencies).filter(
  name => /^@(jupyterlab|lumino)\//.test(name) || name === 'react'
);
const compatible = version => '^' + version.replace(/^[~^]/, '');
const shared = Object.fromEntries(
  provided.map(name => [
    name,
    { import: false, singleton: true, requiredVersion: compatible(manifest.devDependencies[name]) }
  ])
);

const compiler = rspack({
  mode: 'production',
  context: here,
  entry: {},
  output: {
    path: resolve(output, 'static'),
    filename: '[name].[contenthash].js?v=[contenthash]',
    publicPath: 'auto'
  },
  resolve: { extensions: ['.ts', '.tsx', '.js'] },
  module: {
    rules: [
      {
        test: /\.tsx?$/,
        loader: 'builtin:swc-loader',
        options: {
          jsc: {
            parser: { syntax: 'typescript', tsx: true },
            target: 'es2022',
            transform: { react: { runtime: 'classic' } }
          }
        }
      },
      { test: /\.(css|svg)$/, type: 'asset/source' }
    ]
  },
  plugins: [
    // The webpack-compatible plugin: JupyterLab's page speaks the first version of module federation.
    new rspack.container.ModuleFederationPluginV1({
      name: manifest.name,
      library: { type: 'var', name: ['_JUPYTERLAB', manifest.name] },
      filename: 'remoteEntry.[contenthash].js',
      exposes: {
        './index': entry,
        './extension': entry,
        './style': resolve(here, manifest.style)
      },
      shared: {
        ...shared,
        [manifest.name]: { version: manifest.version, singleton: true, import: entry }
      }
    })
  ]
});

await rm(output, { recursive: true, force: true });
const stats = await new Promise((done, fail) =>
  compiler.run((error, result) => (error ? fail(error) : done(result)))
);
await new Promise(done => compiler.close(done));
if (stats.hasErrors()) {
  console.error(stats.toString({ colors: false, all: false, errors: true }));
  process.exit(1);
}

const remote = Object.keys(stats.compilation.assets).find(name => name.startsWith('remoteEntry.'));
const { name, version, description, license, jupyterlab } = manifest;
const build = { load: `static/${remote}`, extension: './extension', style: './style' };
const described = { name, version, description, license, jupyterlab: { ...jupyterlab, _build: build } };
await writeFile(resolve(output, 'package.json'), JSON.stringify(described, null, 2));
console.log(`${manifest.name} ${version}: built ${jupyterlab.outputDir}`);
