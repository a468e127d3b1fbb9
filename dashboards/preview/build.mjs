// Bundles page.tsx with Grafana's own components into page.js.
import esbuild from 'esbuild';

// Large parts of @grafana/ui that no panel here uses, and that do not bundle.
const unused =
  /^(monaco-editor|react-monaco-editor|@monaco-editor|ol|slate|slate-react|slate-plain-serializer|systemjs)(\/|$)/;
const nothing = 'module.exports = new Proxy(function () { return {} }, { get: (_, key) => key === "__esModule" ? false : function () { return {} } })';

await esbuild.build({
  entryPoints: ['page.tsx'],
  bundle: true,
  outfile: 'page.js',
  format: 'iife',
  jsx: 'automatic',
  define: { 'process.env.NODE_ENV': '"production"', 'process.env': '{}', global: 'window' },
  loader: { '.svg': 'dataurl', '.woff2': 'dataurl', '.png': 'dataurl', '.css': 'css' },
  logLevel: 'error',
  plugins: [
    {
      name: 'unused',
      setup(build) {
        build.onResolve({ filter: unused }, (found) => ({
          path: `unused-${found.path.replace(/\.m?js$/, '')}`,
          namespace: 'unused',
        }));
        build.onLoad({ filter: /.*/, namespace: 'unused' }, () => ({ contents: nothing, loader: 'js' }));
      },
    },
  ],
});
